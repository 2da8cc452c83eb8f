"""Figures of a model against the same by hand, in float64."""

import math

import pytest
import torch

from gemmule import tokenize
from gemmule.evaluate.agreement import Agreement
from gemmule.evaluate.figures import Calibration, Subject, measure, measure_one
from gemmule.evaluate.looking import Looking
from gemmule.evaluate.passages import StreamPassages
from gemmule.losses.targets import DenseTeacher
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.teacher import Ensemble
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Windows


@pytest.fixture(scope="module")
def windows(texts, tmp_path_factory):
    words = tokenize.train(texts, 300)
    shards = write_shards(texts[:2], words, tmp_path_factory.mktemp("tokens"))
    return Windows(shards, 32, words.bos_id, words.pad_id)


def test_figures_by_hand(windows):
    model, teacher = (Gemma2(Gemma2Config(300, 2, 16, 2, 1, 8, 32, 8)).initialise(seed).eval() for seed in (0, 1))
    figures = measure_one(Gemma2Teacher(model), StreamPassages(windows), Gemma2Teacher(teacher), "m")
    losses, divergences, hits, agreements, bins = [], [], [], [], [[] for _ in range(15)]
    entropies, own, accepted = [], [], []
    stream = windows.shards[:]
    for start in range(0, len(stream), 32):  # one window at a time, without padding
        targets = torch.from_numpy(stream[start : start + 32])
        ids = torch.cat([torch.tensor([windows.bos_id]), targets[:-1]])[None]
        with torch.no_grad():
            q, p = (torch.softmax(net(ids)[0].double(), -1) for net in (model, teacher))
        losses += (-q.log()[torch.arange(len(targets)), targets]).tolist()
        divergences += (p * (p / q).log()).sum(-1).tolist()
        entropies += (-p * p.log()).sum(-1).tolist()
        own += (-q * q.log()).sum(-1).tolist()
        accepted += torch.minimum(p, q).sum(-1).tolist()
        hit = q.argmax(-1) == targets
        hits += hit.tolist()
        agreements += (q.argmax(-1) == p.argmax(-1)).tolist()
        for confidence, right in zip(q.max(-1).values.tolist(), hit.tolist(), strict=True):
            bins[math.ceil(confidence * 15) - 1].append((confidence, right))
    count = len(stream)
    assert len(losses) == count
    assert figures["perplexity"] == pytest.approx(math.exp(sum(losses) / count), rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(sum(losses) / math.log(2) / windows.shards.text_bytes, rel=1e-5)
    assert figures["kl_to_teacher"] == pytest.approx(sum(divergences) / count, rel=1e-4)
    assert figures["accuracy"] == pytest.approx(sum(hits) / count)
    assert figures["acceptance"] == pytest.approx(sum(accepted) / count, rel=1e-5)
    assert figures["entropy"] == pytest.approx(sum(own) / count, rel=1e-5)
    assert figures["teacher_entropy"] == pytest.approx(sum(entropies) / count, rel=1e-5)
    assert (figures["tokens"], figures["documents"], figures["units"]) == (count, 2, "stretches")
    low, high = figures["perplexity_interval"]
    assert low < figures["perplexity"] < high
    assert figures["agreement"] == pytest.approx(sum(agreements) / count, abs=2e-3)
    assert min(entropies) > 3  # of a random teacher, so all in one bucket
    *empty, full = figures["agreement_by_entropy"]
    assert [bucket["count"] for bucket in empty] == [0] * 4
    assert full == {"from": 3.0, "to": None, "count": count, "kl": figures["kl_to_teacher"],
                    "agreement": figures["agreement"]}  # fmt: skip
    ranges = [(0, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32)]
    assert [(found["from"], found["to"]) for found in figures["by_position"]] == ranges
    for (start, stop), found in zip(ranges, figures["by_position"], strict=True):
        there = [loss for place, loss in enumerate(losses) if start <= place % 32 < stop]
        assert (found["count"], found["loss"]) == (len(there), pytest.approx(sum(there) / len(there), rel=1e-5))
    ece = sum(abs(sum(c for c, _ in b) - sum(r for _, r in b)) for b in bins) / count
    assert figures["ece"] == pytest.approx(ece, rel=1e-3)
    assert [entry["count"] for entry in figures["calibration"]] == [len(entries) for entries in bins]


def test_without_a_teacher_there_is_no_divergence(windows):
    model = Gemma2(Gemma2Config(300, 1, 8, 2, 1, 4, 16, 8)).initialise(0).eval()
    figures = measure_one(Gemma2Teacher(model), StreamPassages(windows), None, "m")
    assert figures["kl_to_teacher"] is None
    assert figures["agreement"] is None
    assert figures["agreement_by_entropy"] == []


def test_calibration_by_hand():
    calibration = Calibration()
    # four predictions at 0.9 of which one is right, two at 1/16 of which both are
    calibration.add(torch.tensor([0.9, 0.9, 0.9, 0.9, 1 / 16, 1 / 16]), torch.tensor([1, 0, 0, 0, 1, 1]).bool())
    assert calibration.error == pytest.approx((abs(1 - 3.6) + abs(2 - 2 / 16)) / 6)
    bins = calibration.bins()
    assert bins[0] == {"confidence": pytest.approx(1 / 16), "accuracy": 1.0, "count": 2}
    assert bins[13] == {"confidence": pytest.approx(0.9), "accuracy": 0.25, "count": 4}
    assert bins[5] == {"confidence": None, "accuracy": None, "count": 0}


def test_agreement_by_the_teachers_entropy():
    """Uniform over 1, 2, 4 and 32 tokens: entropies 0, log 2, log 4 and log 32."""
    p = torch.zeros(4, 32)
    for row, tokens in enumerate((1, 2, 4, 32)):
        p[row, :tokens] = 1 / tokens
    anything, targets = DenseTeacher(torch.zeros(4, 32), None), torch.zeros(4, dtype=torch.int64)
    looks = Looking(32, torch.device("cpu")).look(anything, targets, DenseTeacher(p.log(), None))
    agreement = Agreement()
    for rows, kl, same in (([0, 1], [0.1, 0.2], [True, False]), ([1, 2, 3], [0.4, 0.5, 0.6], [True, True, False])):
        agreement.add(looks.teacher_entropy[rows], torch.tensor(kl), torch.tensor(same))
    assert [bucket["count"] for bucket in agreement.buckets()] == [1, 2, 1, 0, 1]
    assert [bucket["kl"] for bucket in agreement.buckets()] == pytest.approx([0.1, 0.3, 0.5, None, 0.6])
    assert [bucket["agreement"] for bucket in agreement.buckets()] == [1, 0.5, 1, None, 0]
    assert agreement.divergence == pytest.approx(1.8 / 5)
    assert agreement.agreement == pytest.approx(3 / 5)


def test_models_beside_one_teacher_have_the_figures_that_they_have_alone(windows):
    """An ensemble of two teachers, one of which is measured itself; and a model that is its own teacher."""
    models = [
        Gemma2Teacher(Gemma2(Gemma2Config(300, 2, 16, 2, 1, 8, 32, 8)).initialise(seed).eval()) for seed in range(4)
    ]
    both = Ensemble([(0.7, models[2]), (0.3, models[3])])
    pairs = [(models[0], both), (models[1], both), (models[2], both), (models[3], None), (models[0], models[0])]
    together = measure([Subject(*pair) for pair in pairs], StreamPassages(windows), "m")
    for (model, teacher), found in zip(pairs, together, strict=True):
        alone = measure_one(model, StreamPassages(windows), teacher, "m")
        assert flat(found) == pytest.approx(flat(alone), rel=1e-5, abs=1e-7, nan_ok=False)
    assert together[4]["kl_to_teacher"] == 0
    assert together[4]["acceptance"] == pytest.approx(1)


def flat(found):
    """Its numbers, by where they stand."""
    items = found.items() if isinstance(found, dict) else enumerate(found)
    numbers = {}
    for key, value in items:
        if isinstance(value, dict | list):
            numbers |= {f"{key}.{inner}": number for inner, number in flat(value).items()}
        elif isinstance(value, int | float):
            numbers[str(key)] = value
    return numbers
