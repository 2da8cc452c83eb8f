"""Documents kept apart: student, live teacher, stored teacher, validation and evaluation all see the same context."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from stored_targets import write_targets

from gemmule import recipe, tokenize
from gemmule.evaluate.figures import measure_one
from gemmule.evaluate.passages import StreamPassages
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.plan.plan import Plan
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.teacher import probabilities
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Windows
from gemmule.train.loop import validate
from gemmule.train.objective import accumulate

CPU = torch.device("cpu")
SHAPE = Gemma2Config(300, 2, 16, 2, 1, 8, 32, 8)
LENGTH = 32


@pytest.fixture(scope="module")
def windows(texts, tmp_path_factory):
    words = tokenize.train(texts, 300)
    # 12 short documents and a rest that fills no window: some windows hold three of them
    shards = write_shards([text[:40] for text in texts], words, tmp_path_factory.mktemp("tokens"))
    return Windows(shards, LENGTH, words.bos_id, words.pad_id, separate_documents=True)


@pytest.fixture(scope="module")
def pair():
    """A student and a teacher."""
    return [Gemma2(SHAPE).initialise(seed).eval() for seed in (1, 2)]


@torch.no_grad()
def alone(model, windows):
    """The model's distributions over the stream, [tokens, V], each document of each window read by itself."""
    rows = []
    starts = {*windows.shards.document_starts.tolist()}
    for start in range(0, len(windows.shards), LENGTH):
        targets = windows.shards[start : start + LENGTH]
        cuts = [0, *(j for j in range(1, len(targets)) if start + j in starts), len(targets)]
        for first, stop in itertools.pairwise(cuts):
            inputs = [windows.bos_id, *targets[first : stop - 1].tolist()]  # what goes before the document's tokens
            rows.append(torch.softmax(model(torch.tensor([inputs]))[0].double(), -1))
    return torch.cat(rows)


def mean_loss(distributions, windows):
    targets = torch.from_numpy(windows.shards[:])
    return -distributions.log()[torch.arange(len(targets)), targets].mean().item()


def test_training_validation_and_evaluation_read_each_document_by_itself(windows, pair):
    student, teacher = pair
    q, p = alone(student, windows), alone(teacher, windows)
    expected = mean_loss(q, windows)
    everything = windows.window_batch(range(len(windows)))
    loss = accumulate(student, everything, lambda batch: torch.from_numpy(batch.targets), windows_per_micro_batch=3)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert validate(student, windows, CPU) == pytest.approx(expected, rel=1e-5)
    figures = measure_one(Gemma2Teacher(student), StreamPassages(windows), Gemma2Teacher(teacher), "m")
    assert figures["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert figures["kl_to_teacher"] == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-4)
    packed = Windows(windows.shards, LENGTH, windows.bos_id, windows.pad_id)
    assert abs(validate(student, packed, CPU) - expected) > 1e-3


def test_live_and_stored_teachers_read_each_document_by_itself(windows, pair, tmp_path):
    expected = alone(pair[1], windows)
    batch = windows.window_batch(range(len(windows)))
    teacher = Gemma2Teacher(pair[1])
    live = probabilities(teacher.expect(**batch.model_inputs("cpu")))[: len(expected)]
    torch.testing.assert_close(live.double(), expected, rtol=1e-4, atol=1e-6)
    entropy = write_targets(tmp_path, teacher, windows, positions=10**6)[: len(expected)].entropy.double()
    wanted = -(expected * expected.log()).sum(-1)
    assert (entropy - wanted).abs().max() < 1e-3  # as stored
    other = probabilities(teacher.expect(torch.from_numpy(batch.inputs)))[: len(expected)].double()
    assert (-(other * other.log()).sum(-1) - wanted).abs().max() > 0.01


def test_the_key_changes_what_reads_windows_and_nothing_else(text_folder):
    raw = {
        "name": "r",
        "data": {"sources": ["texts/*"]},
        "tokenizer": {"vocabulary_size": 300},
        "models": {
            "big": {"architecture": {"layers": 1, "width": 16}, "train": {"tokens": 1000}},
            "small": {"like": "big", "learn_from": "big", "distill": {"targets": {}}},
        },
    }
    origin = text_folder.parent / "r.toml"
    off = Plan(raw, origin)
    assert not recipe.parse(raw).data.separate_documents
    assert not any("data.separate_documents" in step.settings for step in off.steps)  # older runs stay as they are
    raw["data"]["separate_documents"] = True
    changed = {step.kind for step in Plan(raw, origin).steps if step.settings.get("data.separate_documents")}
    assert changed == {"targets", "model", "evaluation"}
