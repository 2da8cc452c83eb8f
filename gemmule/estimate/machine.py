"""What there is here: how fast this machine was measured to be, and the memory and disk that are free."""

from __future__ import annotations

import mmap
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

BANDWIDTH = 10e9  # bytes a second of memory, where it was not measured
OF_PRODUCT = 0.6  # of a large product's speed: what products within a model reach, where they were not measured


@dataclass(frozen=True)
class Measured:
    """Seconds of this machine."""

    micro_batch: dict[str, float]  # of each model trained: forward and backward, its teacher's forward pass not in it
    update: dict[str, float]
    reading: dict[str, float]  # of each model's forward pass without the head, a token
    judging: float  # of looking at logits, a number of them
    product: float  # FLOP/s of a large float32 product
    threads: int
    process: int  # bytes of the process before there is any model: libraries, and what reading the text leaves


def free_memory() -> int:
    """Bytes that a new process can have: what Linux calls available, else all there is."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return _physical_memory()


def _physical_memory() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import ctypes

    class MemoryStatus(ctypes.Structure):  # Windows: MEMORYSTATUSEX
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in (
                "total",
                "available",
                "total_page",
                "available_page",
                "total_virtual",
                "available_virtual",
                "_",
            )
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.sizes[1])  # physical, available


def resident() -> int:
    """Bytes that this process holds; about what Python and PyTorch take, where nobody says."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 450 * 10**6
    return pages * mmap.PAGESIZE


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder lies, or will lie."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
