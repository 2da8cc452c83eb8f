"""Stored targets: sampled, packed, and read by stream position."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
