"""The training loop and what it needs: optimizer, schedule, checkpoints, metrics."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
