"""`torch.compile`, where it pays, and only while it works.

- Training on a CPU gains nothing by it (benchmarks/compiling.py): a step is products and blocked attention, and the
  rest too little. It is compiled on a GPU, or where the recipe says so.
- Generating gains half of a step's time and more (benchmarks/decode.py), once ten seconds of compiling are worth it.
- Without a C++ compiler the first step fails; then it is said once and everything goes on uncompiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias, TypeVar

import torch

from gemmule.errors import first_line
from gemmule.model.transformer import Gemma2
from gemmule.progress import say

Wish: TypeAlias = bool | Literal["auto"]
PAYS_ABOVE = 3e10  # parameters times generated tokens: a step saves some 0.3 ns a parameter, compiling takes 10 s
Result = TypeVar("Result")

_given_up = False


def prepare(model: Gemma2, wish: Wish) -> None:
    """Compiles the model's backbone for training, if that is wished or likely to pay on its device."""
    on_cpu = model.model.embed_tokens.weight.device.type == "cpu"
    if not _given_up and (wish is True or (wish == "auto" and not on_cpu)):
        model.model.compile()


def pays_for_generating(model: Gemma2, tokens: int) -> bool:
    """Whether so many steps of one token for each row are likely to pay for compiling a step."""
    on_cpu = model.model.embed_tokens.weight.device.type == "cpu"
    return not _given_up and on_cpu and tokens * model.config.parameters > PAYS_ABOVE


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
        say(f"torch.compile does not work here ({first_line(error)}); going on uncompiled, somewhat slower")
        return work()


def eager() -> AbstractContextManager[None]:
    """Within this context compiled models run uncompiled, so that a rare shape costs no compilation."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and importing it would take more than a second
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
