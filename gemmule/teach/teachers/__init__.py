"""Teachers of every kind: what a larger model expects at every token."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
