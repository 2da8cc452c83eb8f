"""Several processes as torchrun would start them, without what starting takes: this one, forked."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

from torch.distributed import TCPStore

TIMEOUT = 100  # seconds, less than a test has
HOST = "127.0.0.1"


def in_processes(count: int, work: Callable[[], Any]) -> list[Any]:
    """What `work` gives on each of `count` ranks, in order. Raises AssertionError with the traceback of one that fails.

    Threads do not survive a fork: torch must run on one.
    """
    context = multiprocessing.get_context("fork")
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)  # as torchrun's, it outlives every process
    shared = {"WORLD_SIZE": count, "MASTER_ADDR": HOST, "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = []
    for rank in range(count):
        variables = shared | {"RANK": rank, "LOCAL_RANK": rank}
        processes.append(context.Process(target=_run, args=(work, variables, pipes[rank][1])))
        processes[-1].start()
    results = []
    try:
        for rank, (ours, _) in enumerate(pipes):
            assert ours.poll(TIMEOUT), f"rank {rank} says nothing"
            failed, result = pickle.loads(ours.recv_bytes())  # of our own child, through our own pipe
            assert not failed, f"rank {rank}: {result}"
            results.append(result)
    finally:
        for process in processes:
            process.join(5 if len(results) == count else 0)
            process.kill()
    return results


def _run(work: Callable[[], Any], variables: dict[str, Any], pipe: Any) -> None:
    os.environ |= {name: str(value) for name, value in variables.items()}
    try:
        said = False, work()
    except BaseException:
        said = True, traceback.format_exc()
    pipe.send_bytes(pickle.dumps(said))  # `send` would leave tensors with this process, which ends
