"""Text to documents: sources of every format, cut into documents, each in its split."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
