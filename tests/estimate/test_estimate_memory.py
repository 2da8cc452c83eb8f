"""Memory, counted, against what PyTorch really keeps."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from gemmule.base.chunks import CHUNK
from gemmule.estimate import memory
from gemmule.evaluate import figures
from gemmule.evaluate.passages import StreamPassages
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.shape import of_config
from gemmule.tokenize.windows import Windows
from gemmule.train.memory import recompute_activations
from gemmule.train.optimizer import Optimizer

TRAIN = Train(tokens=1, learning_rate=1e-3, optimizer="adamw", schedule="cosine")

SHAPES = {
    "deep": Gemma2Config(300, layers=6, width=32, heads=4, kv_heads=2, head_dim=8, ffn_width=128, window=64),
    "wide": Gemma2Config(300, layers=2, width=96, heads=2, kv_heads=2, head_dim=48, ffn_width=200, window=32),
}


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
def test_activations_are_what_autograd_keeps(config, again):
    model, train = Gemma2(config).train(), TRAIN.model_copy(update={"recompute_activations": again})
    if again:
        recompute_activations(model)
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
    passing = 6 * config.width + 3 * config.ffn_width
    if again:  # and the one layer that is made again
        passing += 6 * config.width + 2 * (config.heads + config.kv_heads) * config.head_dim + 4 * config.ffn_width
    passing *= 4 * ids.numel()
    assert memory.activations(config, train, ids.numel()) * 4 - passing == pytest.approx(measured, rel=0.05)
    del hidden


def test_a_training_holds_weights_gradients_and_two_moments_and_the_teacher():
    config = SHAPES["wide"]
    alone = memory.of_training(config, TRAIN, 1024)
    weights = sum(weight.nbytes for weight in Gemma2(config).parameters())
    table = 300 * 96 * 4
    assert (alone.weights, alone.gradients, alone.moments) == (weights, weights + table, 2 * weights)
    assert alone.checkpoint == 3 * weights
    assert alone.head == 1024 * 300 * 4
    taught = memory.of_training(config, TRAIN, 1024, [of_config(SHAPES["deep"], 128)])
    assert taught.teacher > sum(weight.nbytes for weight in Gemma2(SHAPES["deep"]).parameters())
    assert taught.head == 2 * alone.head
    assert alone.total == sum((6 * weights, weights + table, alone.activations, alone.head))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_checkpoint_on_disk(optimizer, tmp_path):
    train = TRAIN.model_copy(update={"optimizer": optimizer})
    model = Gemma2(SHAPES["deep"])
    updates = Optimizer(model, train)
    model(torch.randint(300, (1, 8)), targets=torch.randint(300, (1, 8))).backward()
    updates.step(1e-3)
    save_file(updates.state(), tmp_path / "moments")
    save_file(dict(model.named_parameters()), tmp_path / "weights")
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert memory.checkpoint_bytes(SHAPES["deep"], train) == pytest.approx(written, rel=0.05)


def test_checkpoints_that_are_written_and_that_stay():
    def counted(steps: int, seconds: float = 1.0, **policy: object) -> tuple[int, int]:
        train = TRAIN.model_copy(update=policy)
        return memory.checkpoints_written(train, steps, seconds), memory.checkpoints_kept(train, steps, seconds)

    assert [counted(steps) for steps in (1, 200, 201, 1000)] == [(1, 1), (1, 1), (2, 2), (5, 2)]
    assert counted(1000, keep_last=3, keep_every=400) == (7, 5)
    assert counted(1000, keep_last=3, keep_every=400, keep_best=True) == (27, 6)
    assert counted(1000, seconds=9000.0) == (30, 3)  # every 5 minutes; the newest by steps stays beside the two newest
    assert counted(1000, seconds=9000.0, checkpoint_minutes=30.0) == (5, 3)
    assert counted(7, seconds=90000.0) == (7, 3)  # one each step
    assert counted(1000, checkpoint_every=10) == (100, 2)


class Ids:
    """A stream of random tokens."""

    path = "random"

    def __init__(self, tokens: int, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        self.ids = np.random.default_rng(0).integers(6, vocabulary_size, tokens)
        self.document_starts, self.text_bytes = np.zeros(1, np.int64), 4 * tokens

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, where):
        return self.ids[where]

    def mask(self, start: int, stop: int):
        return np.ones(stop - start, bool)


class Held(TorchDispatchMode):
    """The bytes of the tensors that are there at once, at most, and of the largest: counted, so always the same."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.largest = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return made

    def _see(self, storage) -> None:
        address = storage._cdata
        if address not in self._known:
            self._known.add(address)
            size = storage.nbytes()
            self.now += size
            self.peak, self.largest = max(self.peak, self.now), max(self.largest, size)
            weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.now -= size


@pytest.mark.parametrize("taught", [False, True], ids=["alone", "beside its teacher"])
def test_an_evaluation_holds_a_chunk_of_logits(taught):
    """Of windows whose logits would take eight chunks."""
    length, V = 1024, 2**17
    config = Gemma2Config(V, layers=2, width=16, heads=2, kv_heads=2, head_dim=8, ffn_width=32, window=64)
    model, teacher, shape = Gemma2Teacher(Gemma2(config)), Gemma2Teacher(Gemma2(config)), of_config(config, length)
    passages = StreamPassages(Windows(Ids(length, V), length, 2, 0))
    with Held() as held:
        figures.measure_one(model, passages, teacher if taught else None, "measuring")
    chunk = CHUNK * 4
    assert held.largest == chunk < length * V * 4 / 7
    models = [shape] * (1 + taught)
    beside = memory.of_evaluation(models, V, length) - (1 + taught) * config.parameters * 4
    assert beside == pytest.approx(chunk, rel=0.1)  # which two share
    heads = (1 + taught) * config.embedding_parameters * 4  # that were there before, and were seen
    assert held.peak == pytest.approx(beside + heads, rel=0.05)
