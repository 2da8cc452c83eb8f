"""What lowers training's memory: activations recomputed in the backward pass, matmuls in bfloat16.

Both are applied to a finished model from outside; its own file knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal

import torch
from torch.utils.checkpoint import checkpoint

from gemmule.model.transformer import Gemma2

Precision = Callable[[], AbstractContextManager[object]]


def recompute_activations(model: Gemma2) -> None:
    """Keeps only each layer's input in the forward pass (Chen et al. 2016, arXiv 1604.06174).

    The gradients are the same to the bit.
    """
    for layer in model.model.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def lower_precision(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Precision:
    """A context in which products are in bfloat16 and weights stay float32 (Micikevicius et al. 2018,
    arXiv 1710.03740), if it is wished for or, for "auto", the device is made for it. Forward passes belong in it.
    """
    made_for_it = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bfloat16" or (precision == "auto" and made_for_it):
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 for the head, whose loss stays in float32
        return partial(torch.autocast, device.type, torch.bfloat16)
    return nullcontext
