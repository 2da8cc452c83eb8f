"""Settings of the process that make PyTorch on a CPU faster: how threads wait, and how memory is given back.

Call `settle` before torch is imported. Nothing that is computed changes.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc takes no more


def settle() -> None:
    """Sets what the environment does not set already.

    - OpenMP's threads wait for each other by spinning for long; while anything else runs, that makes training up to
      ten times as slow. A short spin costs nothing measurable on an idle machine.
    - glibc gives memory back when large tensors are freed and faults it in again for the next ones: 2 to 14% of a
      training step. Told to keep it, a process holds what its largest step needed.

    benchmarks/threads.py and benchmarks/memory_kept.py measure them.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    if (mallopt := _glibc("mallopt")) is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)


def give_back() -> None:
    """Gives the system what is free of the memory that `settle` keeps: after loading, which needs it only once.

    220 MB of a process that has read Gemma 3 270M and its tokenizer from a GGUF file.
    """
    if sys.platform == "linux" and (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def _glibc(name: str) -> Any:
    """A function of glibc's; None where another C library is."""
    return getattr(ctypes.CDLL(None), name, None)
