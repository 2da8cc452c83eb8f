"""Reads tokens through the cache: a prompt in chunks, then one token for each row, as it is or compiled.

Compiled, one layer is one graph, which every layer runs with its own weights. So compiling takes seconds whatever the
depth, and twice that the first time, for a ring and a growing cache have other shapes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from gemmule.base.errors import WorkError
from gemmule.losses.logits import capped_logits
from gemmule.model.cache import Cache
from gemmule.model.fast import compiling
from gemmule.model.transformer import Gemma2, Layer

CHUNK = 512  # tokens of a prompt read at once: scores of a layer are [B, H, CHUNK, S]


def read(model: Gemma2, ids: Tensor, cache: Cache, *, compiled: bool = False) -> Tensor:
    """Reads ids [B, T]. Gives the logits of what follows, [B, V]. Only single tokens are read `compiled`.

    Raises WorkError if the logits are no numbers.
    """
    if compiled and ids.shape[1] == 1:
        logits = compiling.eager_if_it_fails(lambda: _compiled_step(model, ids, cache))
    else:
        for chunk in ids.split(CHUNK, dim=1):
            hidden = model.model(chunk, cache)
        logits = model.logits(hidden[:, -1])
    if not logits.isfinite().all():
        raise WorkError("the model's logits are not finite: its weights hold NaN or infinity")
    return logits


def _compiled_step(model: Gemma2, ids: Tensor, cache: Cache) -> Tensor:
    run_layer, head = _compiled()
    hidden = model.model(ids, cache, run_layer=run_layer)
    return head(hidden[:, -1], model.model.embed_tokens.weight, model.config.final_cap)


@functools.cache  # once a process
def _compiled() -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    return torch.compile(_run_layer), torch.compile(capped_logits)


def _run_layer(layer: Layer, *arguments: object) -> Tensor:
    output: Tensor = layer(*arguments)
    return output
