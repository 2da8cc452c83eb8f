"""What every step shares: artifacts, locks, errors, progress, processes, units, and the doors to PyTorch's internals.

Nothing in here knows anything of language models.
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
