"""Settings of the process that make PyTorch on a CPU faster: how threads wait, and how memory is given back.

Call `settle` before torch is imported. Nothing that is computed changes.
"""

from __future__ import annotations

import ctypes
import os
import sys

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
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library than glibc
        return
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
