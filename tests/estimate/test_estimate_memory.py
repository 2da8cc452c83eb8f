"""Memory, counted, against what PyTorch really keeps."""

from __future__ import annotations

import pytest
import torch

from gemmule.estimate import memory
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2

SHAPES = {
    "deep": Gemma2Config(300, layers=6, width=32, heads=4, kv_heads=2, head_dim=8, ffn_width=128, window=64),
    "wide": Gemma2Config(300, layers=2, width=96, heads=2, kv_heads=2, head_dim=48, ffn_width=200, window=32),
}


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_activations_are_what_autograd_keeps(config):
    model = Gemma2(config).train()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(300, (8, 128))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.model(ids)
    measured = sum(kept.values())
    # what the backward pass needs beside, and what goes into the head and comes back
    passing = 4 * ids.numel() * (6 * config.width + 3 * config.ffn_width)
    assert memory.activations(config, ids.numel()) * 4 - passing == pytest.approx(measured, rel=0.05)
    del hidden


def test_a_training_holds_weights_gradients_and_two_moments_and_the_teacher():
    config = SHAPES["wide"]
    alone = memory.of_training(config, 1024)
    weights = sum(weight.nbytes for weight in Gemma2(config).parameters())
    table = 300 * 96 * 4
    assert (alone.weights, alone.gradients, alone.moments) == (weights, weights + table, 2 * weights)
    assert alone.head == 1024 * 300 * 4
    from gemmule.estimate.shapes import of_config

    taught = memory.of_training(config, 1024, [of_config(SHAPES["deep"], 128)])
    assert taught.teacher > sum(weight.nbytes for weight in Gemma2(SHAPES["deep"]).parameters())
    assert taught.head == 2 * alone.head
    assert alone.total == sum((weights, weights + table, 2 * weights, alone.activations, alone.head))


def test_a_checkpoint_on_disk(tmp_path):
    from safetensors.torch import save_file

    from gemmule.recipe import Train
    from gemmule.train.optimizer import make_optimizer, state_tensors

    model = Gemma2(SHAPES["deep"])
    optimizer = make_optimizer(model, Train(tokens=1, learning_rate=1e-3))
    model(torch.randint(300, (1, 8)), targets=torch.randint(300, (1, 8))).backward()
    optimizer.step()
    save_file(state_tensors(model, optimizer), tmp_path / "moments")
    save_file(dict(model.named_parameters()), tmp_path / "weights")
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert memory.checkpoint_bytes(SHAPES["deep"]) == pytest.approx(written, rel=0.05)
