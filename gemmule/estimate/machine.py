"""What there is here: how fast this machine was measured to be, and the memory and disk that are free."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BANDWIDTH = 10e9  # bytes a second of memory, where it was not measured
SPARE = 0.9  # of what is free: the rest is left to others
OF_PRODUCT = 0.6  # of a large matmul's speed: what matmuls within a model reach, where they were not measured


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
    """Bytes that a new process can have: what the system calls available, and no more than it is allowed."""
    return min(_meminfo("MemAvailable") or _physical_memory(available=True), *_limits())


def total_memory() -> int:
    """Bytes of memory that there are, whoever has them now: the machine's, and no more than this process is allowed.

    Swap space does not count: training that needs it does not get on.
    """
    return min(_meminfo("MemTotal") or _physical_memory(available=False), *_limits())


def _meminfo(field: str) -> int:
    """Linux's own figure; 0 elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return 0


def _limits() -> Iterator[int]:
    """What bounds this process: its control groups (as of a container or a job), `ulimit -v`; nothing: 2^63."""
    yield 2**63
    for folder, name in _groups():
        for group in (folder, *folder.parents):
            try:
                yield int((group / name).read_text())
            except (OSError, ValueError):  # not there, or "max"
                continue
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit


def _groups() -> Iterator[tuple[Path, str]]:
    """The folders of this process's control groups for memory, of version 2 and of 1, and the limit's file in them."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if number == "0":
            yield Path("/sys/fs/cgroup" + path), "memory.max"
        elif "memory" in controllers.split(","):
            yield Path("/sys/fs/cgroup/memory" + path), "memory.limit_in_bytes"


def _physical_memory(*, available: bool) -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import ctypes

    class MemoryStatus(ctypes.Structure):  # Windows: MEMORYSTATUSEX
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong), ("sizes", ctypes.c_ulonglong * 7)]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.sizes[1 if available else 0])  # of the physical memory


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
