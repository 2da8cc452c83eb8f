"""What a finished model is worth."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
