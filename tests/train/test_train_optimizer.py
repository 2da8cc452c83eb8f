"""The optimizers: which parameters each has, its state as tensors, and what needs less memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from small_job import LENGTH, SMALL, same, weights_of

from gemmule.model.fast.attention.blocked import BLOCK
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train import checkpoint, loop
from gemmule.train.memory import lower_precision, recompute_activations
from gemmule.train.optimizer import Muon, Optimizer, orthogonal


def test_only_matrices_decay():
    model = Gemma2(SMALL)
    decayed, others = Optimizer(model, Train(tokens=1, learning_rate=1.0, weight_decay=0.3)).parts[0].param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all("norm" in names[id(parameter)] for parameter in others["params"])
    assert not any("norm" in names[id(parameter)] for parameter in decayed["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_updates_are_to_the_bit_those_of_pytorchs_own_class():
    train = Train(tokens=1, learning_rate=1e-2, weight_decay=0.1)
    ours, theirs = Gemma2(SMALL).initialise(0), Gemma2(SMALL).initialise(0)
    optimizer = Optimizer(ours, train)
    groups = [{"weight_decay": 0.1, "params": []}, {"weight_decay": 0.0, "params": []}]
    for weight in theirs.parameters():
        groups[weight.dim() < 2]["params"].append(weight)
    reference = torch.optim.AdamW(groups, lr=1.0, betas=(train.betas[0], train.betas[1]), fused=True)
    for step in range(5):
        ids = torch.arange(4 * LENGTH).view(4, LENGTH) * (step + 3) % 300
        for model, each in ((ours, optimizer), (theirs, reference)):
            each.zero_grad()
            model(ids, ids.roll(-1, 1)).backward()
        optimizer.step(1e-2 / (step + 1))
        for group in reference.param_groups:
            group["lr"] = 1e-2 / (step + 1)
        reference.step()
    assert same(weights_of(ours), weights_of(theirs))
    assert not same(weights_of(ours), weights_of(Gemma2(SMALL).initialise(0)))


def test_muon_has_the_matrices_of_the_layers_and_turns_their_updates_orthogonal():
    """Its update is near an orthogonal matrix, scaled to AdamW's size: 0.2 sqrt(max(rows, columns)) (2502.16982)."""
    model = Gemma2(SMALL).initialise(0)
    before = weights_of(model)
    optimizer = Optimizer(model, Train(tokens=1, learning_rate=1.0, weight_decay=0.0, optimizer="muon"))
    model(torch.arange(LENGTH)[None], torch.arange(LENGTH)[None]).backward()
    optimizer.step(1e-3)
    by_muon = {id(weight) for weight in optimizer.parts[1].param_groups[0]["params"]}
    for name, weight in model.named_parameters():
        assert (id(weight) in by_muon) == (weight.dim() == 2 and ".layers." in name)
        if id(weight) in by_muon:
            values = torch.linalg.svdvals((weight - before[name]) / 1e-3) / (0.2 * max(weight.shape) ** 0.5)
            assert 0.5 < values.max() < 1.5


def test_muon_takes_pytorchs_steps_but_for_what_bfloat16_rounds():
    """Momentum, decay and rate are to the bit PyTorch's: where its iteration is ours, the weights are the same."""
    ours, theirs = (torch.nn.Parameter(torch.randn(24, 40, generator=torch.manual_seed(0))) for _ in range(2))
    wishes = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    mine, reference = Muon([ours], **wishes), torch.optim.Muon([theirs], **wishes, adjust_lr_fn="match_rms_adamw")
    moved = ours.detach().clone()
    for step in range(4):
        ours.grad = torch.randn(24, 40, generator=torch.manual_seed(step))
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    assert (ours - theirs).norm() < 0.02 * (ours - moved).norm()
    torch.testing.assert_close(mine.state[ours]["momentum_buffer"], reference.state[theirs]["momentum_buffer"])


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_the_iteration_keeps_singular_vectors_and_brings_singular_values_to_one(shape):
    matrix = torch.randn(*shape, generator=torch.manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonal(matrix)
    values = torch.diagonal(u.T @ made @ v.T)
    torch.testing.assert_close(u @ torch.diag(values) @ v, made, rtol=0, atol=1e-4)
    assert 0.3 < values.min() < values.max() < 1.25
    assert not orthogonal(torch.zeros(3, 5)).any()


def test_training_by_muon_goes_on_as_if_nothing_had_happened(job, tmp_path):
    job = replace(job, train=job.train.model_copy(update={"optimizer": "muon"}))
    whole = weights_of(loop.train(job))
    resumed = replace(job, folder=tmp_path / "resumed")
    (resumed.folder / "checkpoints").mkdir(parents=True)
    first = checkpoint.found(job.folder / "checkpoints")[0]
    first.rename(resumed.folder / "checkpoints" / first.name)
    assert same(whole, weights_of(loop.train(resumed)))
    adamw = replace(job, folder=tmp_path / "adamw", train=job.train.model_copy(update={"optimizer": "adamw"}))
    assert not same(whole, weights_of(loop.train(adamw)))


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
