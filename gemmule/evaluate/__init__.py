"""What a finished model is worth."""

from gemmule.lazy import submodules

__getattr__ = submodules(__name__)
