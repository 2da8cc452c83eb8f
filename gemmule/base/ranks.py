"""Many processes as one: how the first of torchrun's processes leads the others.

    torchrun --nproc-per-node 4 -m gemmule run recipe.toml

- Rank 0 does everything as if it were alone. Where others can help, in training and in teaching stored targets, it
  calls them.
- The others wait for its calls at torchrun's key-value store, for as long as it takes: no collective operation that
  could time out is under way meanwhile. At the end they leave with its exit status.
- Only rank 0 says what is going on; of those that fail, the first one says why.

All processes see the same files. Where there is one process, nothing here does anything, and torch is not imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gemmule.base.progress import console

if TYPE_CHECKING:
    from torch.distributed import Store

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # which torchrun gives to each of its processes
LEAVE = "leave with status "
PAUSE = 0.2  # seconds between two looks at the store; its own waiting warns every second

_store: Store | None = None
_calls = 0  # that were made, or heeded


def size() -> int:
    """The number of processes."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in VARIABLES) else 1


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def store() -> Store:
    """What all processes write into and read from."""
    global _store
    if _store is None:
        from torch.distributed import PrefixStore

        from gemmule.base.torch_compat import process_store

        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store outlives its processes
        _store = PrefixStore(f"gemmule/{attempt}", process_store())
    return _store


@contextmanager
def led() -> Iterator[None]:
    """A command is run in this: rank 0 at once, another once it is called; if it never is, it raises SystemExit."""
    if size() == 1:
        yield
    elif rank() == 0:
        status = 1  # of whatever else may be raised
        try:
            yield
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
            raise
        finally:
            store().set(_key("call", _calls), f"{LEAVE}{status}")
    else:
        console.quiet = True
        _listen()
        yield


@contextmanager
def together(task: str) -> Iterator[None]:
    """On rank 0: within this the others do their part of `task`. Waits for them in the end."""
    global _calls
    if size() == 1:
        yield
        return
    number, _calls = _calls, _calls + 1
    store().set(_key("call", number), task)
    yield
    while store().add(_key("done", number), 0) < size() - 1:
        time.sleep(PAUSE)


def calls() -> Iterator[str]:
    """On the others: the tasks that rank 0 calls for. Raises SystemExit with its status when it ends."""
    global _calls
    while True:
        yield _listen()
        store().add(_key("done", _calls), 1)
        _calls += 1


def may_speak() -> bool:
    """Whether this process, which fails, is the first to, and says why."""
    return size() == 1 or store().add("failed", 1) == 1


def _listen() -> str:
    key = _key("call", _calls)
    while not store().check([key]):
        time.sleep(PAUSE)
    task = store().get(key).decode()
    if task.startswith(LEAVE):
        sys.exit(int(task.removeprefix(LEAVE)))
    return task


def _key(what: str, number: int) -> str:
    return f"{what}/{number}"
