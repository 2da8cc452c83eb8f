"""Several processes as torchrun would start them, without what starting takes: a clean one, with torch, is forked.

Never this one: what tests before left in it (threads of parsers, of llama.cpp, of servers) does not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import wait
from typing import Any

import cloudpickle
from torch.distributed import TCPStore

TIMEOUT = 100  # seconds, less than a test has
HOST = "127.0.0.1"
PRELOADED = [  # what each process would spend three seconds on: FSDP and checkpoints import the compiler
    "pytest", "gemmule.train.loop", "gemmule.train.parallel", "gemmule.teach.teachers.huggingface", "fsspec.core",
    "torch._dynamo", "torch.distributed.checkpoint", "torch.utils.tensorboard",
    "transformers.models.gemma2.modeling_gemma2",
]  # fmt: skip


def in_processes(count: int, work: Callable[[], Any]) -> list[Any]:
    """What `work` gives on each of `count` ranks, in order. Raises AssertionError with the traceback of one that fails.

    `work` travels by cloudpickle: what a test patches in its own process, it patches again in `work`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)  # as torchrun's, it outlives every process
    shared = {"WORLD_SIZE": count, "MASTER_ADDR": HOST, "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    pickled = cloudpickle.dumps(work)
    processes, pipes = [], []
    results: dict[int, Any] = {}
    try:
        for rank in range(count):
            ours, theirs = context.Pipe(duplex=False)
            variables = os.environ | {name: str(value) for name, value in shared.items()}
            variables |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(context.Process(target=_run, args=(pickled, variables, theirs, _Output())))
            processes[-1].start()
            theirs.close()  # so that a process which dies is heard of at once
            pipes.append(ours)
        while waiting := [pipe for rank, pipe in enumerate(pipes) if rank not in results]:
            ready = wait(waiting, TIMEOUT)
            assert ready, f"ranks {sorted(set(range(count)) - results.keys())} say nothing"
            for rank in map(pipes.index, ready):
                results[rank] = _said(processes[rank], rank, pipes[rank])
        return [results[rank] for rank in range(count)]
    finally:
        for process in processes:
            process.join(5 if len(results) == count else 0)
            process.kill()


def _said(process: multiprocessing.process.BaseProcess, rank: int, pipe: Any) -> Any:
    try:
        failed, result = pickle.loads(pipe.recv_bytes())  # of our own child, through our own pipe
    except EOFError:
        process.join(5)
        raise AssertionError(f"rank {rank} died: exit status {process.exitcode}") from None
    assert not failed, f"rank {rank}: {result}"
    return result


class _Output:
    """This process's standard output and error, which pytest captures, for another that was not forked from it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _take_output, (reduction.DupFd(1), reduction.DupFd(2))


def _take_output(*descriptors: Any) -> None:
    for standard, descriptor in enumerate(descriptors, 1):
        taken = descriptor.detach()
        os.dup2(taken, standard)
        os.close(taken)


def _run(work: bytes, variables: dict[str, str], pipe: Any, _: Any) -> None:
    os.environ |= variables
    try:
        said = False, cloudpickle.loads(work)()
    except BaseException:
        said = True, traceback.format_exc()
    pipe.send_bytes(pickle.dumps(said))  # `send` would leave tensors with this process, which ends
