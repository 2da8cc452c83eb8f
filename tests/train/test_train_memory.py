"""What needs less memory: activations recomputed, matmuls in bfloat16."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from small_job import LENGTH, SMALL

from gemmule.model.fast.attention.blocked import BLOCK
from gemmule.model.transformer import Gemma2
from gemmule.train.memory import lower_precision, recompute_activations


def gradients(model, precision=None, length=LENGTH):
    ids = torch.arange(4 * length).view(4, length) * 7 % 300
    with precision() if precision else torch.enable_grad():
        loss = model(ids, ids.roll(-1, 1))
    loss.backward()
    return loss.item(), torch.cat([weight.grad.flatten() for weight in model.parameters()])


def count(seen, tensor):
    seen.append(tensor.numel())
    return tensor


def test_recomputed_activations_give_the_same_gradients():
    """And fewer are kept: those that the backward pass holds on to are counted."""
    kept, results = [], []
    for recomputed in (False, True):
        model = Gemma2(SMALL).initialise(0).train()
        if recomputed:
            recompute_activations(model)
        seen: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(partial(count, seen), lambda tensor: tensor):
            results.append(gradients(model))
        kept.append(sum(seen))
    assert kept[1] < kept[0] / 2
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("length", [LENGTH, BLOCK + 6])
def test_bfloat16_products_stay_near_and_weights_stay_float32(length):
    exact = gradients(Gemma2(SMALL).initialise(0).train(), length=length)
    model = Gemma2(SMALL).initialise(0).train()
    near = gradients(model, lower_precision("bfloat16", torch.device("cpu")), length)
    assert near[0] != exact[0]
    assert near[0] == pytest.approx(exact[0], rel=0.01)
    assert torch.nn.functional.cosine_similarity(near[1], exact[1], dim=0) > 0.99
    assert all(weight.dtype == weight.grad.dtype == torch.float32 for weight in model.parameters())


def test_a_cpu_trains_in_float32_unless_told():
    for wish in ("auto", "float32"):
        with lower_precision(wish, torch.device("cpu"))():
            assert not torch.is_autocast_enabled("cpu")
