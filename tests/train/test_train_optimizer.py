"""A model's updates: which parameters decay, the state as tensors, and a file for each optimizer of the recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from small_job import LENGTH, SMALL, same, weights_of

from gemmule.estimate import memory
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.train import checkpoint, loop
from gemmule.train.optimizer import Optimizer


def test_only_matrices_decay():
    model = Gemma2(SMALL)
    parts = Optimizer(model, Train(tokens=1, learning_rate=1.0, weight_decay=0.3)).parts.values()
    weights = [weight for part in parts for weight in part]
    assert {weight.name for weight in weights} == {name for name, _ in model.named_parameters()}
    assert all(weight.decay == (0.0 if "norm" in weight.name else 0.3) for weight in weights)


@pytest.mark.parametrize("optimizer", get_args(Train.model_fields["optimizer"].annotation))
def test_every_optimizer_of_the_recipe_moves_all_weights_and_its_state_is_resumed_to_the_bit(optimizer):
    train = Train(tokens=1, learning_rate=1.0, optimizer=optimizer)
    first, second = Gemma2(SMALL).initialise(0), Gemma2(SMALL)
    updates = Optimizer(first, train)
    assert updates.state() == {}
    step(first, updates, 1)
    state = {name: tensor.clone() for name, tensor in updates.state().items()}
    assert sum(map(torch.numel, state.values())) == memory.moments(SMALL, train)
    empty = Optimizer(second, train).empty_state()
    assert {name: tensor.shape for name, tensor in empty.items()} == {name: t.shape for name, t in state.items()}
    assert not any(tensor.any() for tensor in empty.values())
    initial = Gemma2(SMALL).initialise(0).state_dict()
    assert not any(torch.equal(weight, initial[name]) for name, weight in first.state_dict().items())

    second.load_state_dict(first.state_dict())
    resumed = Optimizer(second, train)
    resumed.load_state(state, 1)
    step(first, updates, 2)
    step(second, resumed, 2)
    assert same(weights_of(first), weights_of(second))


def step(model, optimizer, number):
    ids = torch.arange(4 * LENGTH).view(4, LENGTH) * (number + 3) % 300
    optimizer.zero_grad()
    model(ids, ids.roll(-1, 1)).backward()
    optimizer.step(1e-2 / number)


def test_the_names_of_the_state_are_those_of_checkpoints_that_there_are():
    names = {name: list(Optimizer(Gemma2(SMALL), Train(tokens=1, learning_rate=1.0, optimizer=name)).empty_state())
             for name in ("adamw", "muon")}  # fmt: skip
    parameters = list(SMALL.parameter_shapes)
    matrices = [name for name, shape in SMALL.parameter_shapes.items() if len(shape) == 2 and ".layers." in name]
    assert set(names["adamw"]) == {f"{key}.{name}" for key in ("exp_avg", "exp_avg_sq") for name in parameters}
    assert set(names["muon"]) == {f"momentum_buffer.{name}" for name in matrices} | {
        f"{key}.{name}" for key in ("exp_avg", "exp_avg_sq") for name in set(parameters) - set(matrices)
    }


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
