"""`torch.compile`, where it pays: on long enough work, and only while it works.

Compiling costs 30 to 60 seconds for each new graph on a CPU with a cold cache, and makes a step 1.1 to 1.3 times as
fast. Without a C++ compiler the first step fails; then it is said once and everything goes on uncompiled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

import torch

from gemmule.model.transformer import Gemma2
from gemmule.progress import say

PAYS_ABOVE = 6e13  # FLOPs of training on a CPU: about ten minutes there, of which compiling saves one or more
Result = TypeVar("Result")

_given_up = False


def prepare(model: Gemma2, wish: bool | Literal["auto"], flops: float) -> None:
    """Compiles the model's backbone if that is wished, or likely to pay for `flops` of work on its device."""
    if _given_up or wish is False:
        return
    on_cpu = model.model.embed_tokens.weight.device.type == "cpu"
    if wish is True or flops > PAYS_ABOVE or not on_cpu:
        model.model.compile()
    else:
        _say_that_it_would_not_pay()


@functools.cache  # once a process
def _say_that_it_would_not_pay() -> None:
    say("training uncompiled: on work this short torch.compile costs more time than it saves (machine.compile)")


def eager_if_it_fails(work: Callable[[], Result]) -> Result:
    """Runs `work`; if compiling it fails, says so once, gives up compiling and runs it again uncompiled."""
    global _given_up
    try:
        return work()
    except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
        if _given_up:
            raise
        _given_up = True
        torch.compiler.set_stance("force_eager")
        reason = str(error).strip().splitlines()[0]
        say(f"torch.compile does not work here ({reason}); going on uncompiled, somewhat slower")
        return work()


def eager() -> AbstractContextManager[None]:
    """Within this context compiled models run uncompiled, so that a rare shape costs no compilation."""
    return torch.compiler.set_stance("force_eager")
