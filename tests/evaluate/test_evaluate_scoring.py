"""How a model scores documents, against the same by hand; and what an interruption leaves."""

import math

import numpy as np
import pytest
import torch
from bigrams import Bigrams

from gemmule import tokenize
from gemmule.base.errors import WorkError
from gemmule.evaluate import scores, scoring
from gemmule.evaluate.any_model import AnyModel
from gemmule.evaluate.figures import Subject, measure
from gemmule.evaluate.passages import DocumentPassages
from gemmule.evaluate.scores import Known, Scores
from gemmule.evaluate.scoring import Kept, Scorer, score_all
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.teach.teachers.gemma2 import Gemma2Teacher

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def documents(texts):
    """Of many lengths, not in their order."""
    lines = [line for text in texts for line in text.splitlines()]
    return ["O", texts[0], *lines[:40], "<bos>" + lines[40], texts[1][:300], "\n\n  no"]


@pytest.fixture(scope="module")
def words(texts):
    return tokenize.train(texts, 300)


@pytest.fixture(scope="module")
def table():
    logits = np.random.default_rng(0).normal(size=(300, 300)) * 3
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


@pytest.fixture
def bigrams(words, table):
    return AnyModel("table", Bigrams(table, CPU), words, None)


@pytest.fixture
def gemma(words):
    config = Gemma2Config(300, 2, 16, 2, 1, 8, 32, 8, context_length=24)
    return AnyModel("gemma", Gemma2Teacher(Gemma2(config).initialise(0).eval()), words, 24)


def test_loss_and_entropy_of_each_document_by_hand(bigrams, words, table, documents):
    """Windows of 16 tokens: each begins with <bos>, and the <eos> of no document counts."""
    found = Scorer(bigrams, 16).score(documents)
    table = table.astype(np.float64)
    entropies = -(np.exp(table) * table).sum(axis=1)
    for row, text in zip(found, documents, strict=True):
        ids = words.encode(text)
        before = [words.bos_id if place % 16 == 0 else ids[place - 1] for place in range(len(ids))]
        assert row["tokens"] == len(ids)
        assert row["bytes"] == len(text.encode())
        assert row["loss"] == pytest.approx(-table[before, ids].sum(), rel=1e-5)
        assert row["entropy"] == pytest.approx(entropies[before].sum(), rel=1e-5)


def test_documents_read_together_score_as_each_alone(gemma, words, documents):
    """A Gemma 2 that reads 24 tokens, beside the same weights' logits one window at a time."""
    found = Scorer(gemma).score(documents)
    model = gemma.model.model
    for row, text in zip(found, documents, strict=True):
        ids, loss, entropy = words.encode(text), 0.0, 0.0
        for start in range(0, len(ids), 24):
            some = torch.tensor(ids[start : start + 24])
            with torch.no_grad():
                logits = model(torch.cat([torch.tensor([words.bos_id]), some[:-1]])[None])[0].double()
            p = torch.log_softmax(logits, -1)
            loss -= float(p[torch.arange(len(some)), some].sum())
            entropy -= float((p.exp() * p).sum())
        assert row["loss"] == pytest.approx(loss, rel=1e-4)
        assert row["entropy"] == pytest.approx(entropy, rel=1e-4)


def test_the_whole_is_what_evaluate_measures_but_for_the_ends(bigrams, words, table, documents):
    subject = Subject(bigrams.model)
    (figures,) = measure([subject], DocumentPassages(documents, words, 2048), "evaluating")
    last = [words.encode(text)[-1] for text in documents]
    ends = -table.astype(np.float64)[last, words.eos_id].sum()
    found = Scorer(bigrams, 2048).score(documents)
    assert figures["tokens"] == found["tokens"].sum() + len(documents)
    bits = figures["bits_per_byte"] * math.log(2) * found["bytes"].sum()
    assert bits == pytest.approx(found["loss"].sum() + ends, rel=1e-5)


def test_a_tokenizer_that_opens_with_nothing(bigrams, words, table, documents):
    """As Qwen's: the first token of a document is read and not predicted, so one of a single token has no score."""
    names = {**words.names, "bos_token": None}
    plain = AnyModel("table", bigrams.model, tokenize.Tokenizer(words.inner, names=names), None)
    found = Scorer(plain).score(documents)
    counts = [len(words.encode(text)) - 1 for text in documents]
    assert found["tokens"].tolist() == counts
    assert counts[0] == 0
    assert found["loss"][0] == 0
    ids = words.encode(documents[2])
    assert found["loss"][2] == pytest.approx(-table[ids[:-1], ids[1:]].sum(), rel=1e-5)


def test_a_model_that_can_not_judge_is_refused(bigrams, table, words, documents, tmp_path):
    """One that predicts worse than counts of bytes do, or gives no numbers; one that knows what follows what is not."""

    def scored(table, allow_worse=False):
        model = AnyModel("table", Bigrams(table, CPU), words, None)
        kept = Kept(tmp_path / "kept", {"table": float(table[0, 0])})
        score_all(documents, 1, kept, lambda: model, "table", allow_worse=allow_worse)
        return kept.documents

    with pytest.raises(WorkError, match=r"models\.table: .* bits per byte on the first 45 documents, where counts"):
        scored(table)
    assert scored(table, allow_worse=True) == len(documents)
    with pytest.raises(WorkError, match=r"models\.table: its loss is no number"):
        scored(np.full_like(table, np.nan), allow_worse=True)
    ids = [number for text in documents for number in [words.bos_id, *words.encode(text)]]
    counts = np.full((300, 300), 0.1)
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    scored(np.log(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("damage", ["none", "torn", "flipped"])
def test_what_was_interrupted_ends_with_the_same_bytes(bigrams, documents, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(scoring, "CHUNK", 200)
    size = sum(len(text.encode()) for text in documents)

    def finish(name, load=lambda: bigrams):
        kept = Kept(tmp_path / name, {"model": "table"})
        score_all(documents, size, kept, load, "table", allow_worse=True)
        (folder := tmp_path / f"{name} made").mkdir()
        scores.write(kept, folder)
        return (folder / scores.FILE).read_bytes(), folder

    whole, folder = finish("whole")
    read = Scores.read(folder)
    together = Scorer(bigrams).score(documents)
    for column in ("tokens", "bytes"):
        assert getattr(read, column).tolist() == together[column].tolist()
    np.testing.assert_allclose(read.loss, together["loss"], rtol=1e-6)

    def interrupt(text, *after):
        kept, added = Kept(tmp_path / "part", {"model": "table"}), []
        original = kept.add

        def add(rows):
            if len(added) == after[0]:
                raise Interrupted
            added.append(rows)
            original(rows)

        monkeypatch.setattr(kept, "add", add)
        with pytest.raises(Interrupted):
            score_all(text, size, kept, lambda: bigrams, "table", allow_worse=True)

    interrupt(documents, 5)
    file = tmp_path / "part" / scoring.ROWS
    content = bytearray(file.read_bytes())
    before = Kept(tmp_path / "part", {"model": "table"}).documents
    if damage == "torn":
        file.write_bytes(content[:-7])
    elif damage == "flipped":
        content[-7] ^= 1
        file.write_bytes(content)
    left = Kept(tmp_path / "part", {"model": "table"}).documents
    assert 0 < left < len(documents)
    assert (left == before) == (damage == "none")
    assert finish("part")[0] == whole


def test_where_nothing_is_missing_no_model_is_loaded(bigrams, documents, tmp_path):
    kept = Kept(tmp_path / "kept", {"model": "table"})
    score_all(documents, 1, kept, lambda: bigrams, "table", allow_worse=True)

    def load():
        raise AssertionError("loaded")

    score_all(documents, 1, Kept(tmp_path / "kept", {"model": "table"}), load, "table", allow_worse=True)


def test_documents_that_were_scored_before_are_not_read_again(bigrams, documents, tmp_path, monkeypatch):
    """Whatever their order now, and whatever stands beside them; what is new is scored."""
    monkeypatch.setattr(scoring, "CHUNK", 200)
    earlier = Kept(tmp_path / "earlier", {})
    score_all(documents, 1, earlier, lambda: bigrams, "table", allow_worse=True)
    rows = np.concatenate(list(earlier))
    known = Known(Scores(*(rows[name] for name in scores.ROW.names)))
    read = []
    original = Scorer.score
    monkeypatch.setattr(Scorer, "score", lambda self, texts, *rest: read.extend(texts) or original(self, texts, *rest))
    now = ["a new one", *documents[::-1], "another"]
    kept = Kept(tmp_path / "now", {})
    score_all(now, 1, kept, lambda: bigrams, "table", known=known, allow_worse=True)
    assert read == ["a new one", "another"]
    assert np.concatenate(list(kept))[1:-1].tolist() == rows[::-1].tolist()
    assert sum(map(len, kept)) == len(now)

    def load():
        raise AssertionError("loaded")

    score_all(documents[3:], 1, Kept(tmp_path / "fewer", {}), load, "table", known=known)


def test_what_another_model_left_is_not_taken_up(bigrams, documents, tmp_path):
    score_all(documents, 1, Kept(tmp_path / "kept", {"model": "table"}), lambda: bigrams, "table", allow_worse=True)
    assert Kept(tmp_path / "kept", {"model": "table"}).documents == len(documents)
    assert Kept(tmp_path / "kept", {"model": "another"}).documents == 0
