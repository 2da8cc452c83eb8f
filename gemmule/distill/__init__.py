"""What a teacher expects, live or stored, and the losses by which a student learns it."""

from gemmule.lazy import submodules

__getattr__ = submodules(__name__)
