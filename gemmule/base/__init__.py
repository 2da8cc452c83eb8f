"""What every step shares: artifacts, locks, errors, progress, processes, units, and the doors to PyTorch's internals.

Of language models only numbers stand here: limits, the smallest vocabulary, how many logits are in memory at once.
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
