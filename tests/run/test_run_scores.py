"""Documents that a model from outside finds noisy or easy are dropped, before anything is learned from them."""

from __future__ import annotations

import json
import random
import shutil
import sys

import bigrams
import numpy as np
import pytest
from pyarrow import parquet

from gemmule.convert.exporting import export_model
from gemmule.evaluate import scoring
from gemmule.evaluate.scores import Scores
from gemmule.teach import teachers
from gemmule.tokenize.shards import TokenShards

RECIPE = """
name = "scored"
data = {{ sources = ["texts"], sequence_length = 16, validation_fraction = 0.2 }}
tokenizer = {{ vocabulary_size = 270 }}
[refine]
repair = false
personal_data = "keep"
quality = false
duplicates = false
teacher_score = {{ model = "table", drop_noisiest = 0.1, drop_easiest = 0.1 }}
[models.table]
from = "{folder}"
[models.small]
architecture = {{ layers = 1, width = 8 }}
train = {{ tokens = 512, batch_tokens = 256 }}
[evaluate]
sample_tokens = 3
[machine]
device = "cpu"
compile = false
"""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def table(finished, final, tmp_path, monkeypatch):
    """A model from outside that knows what follows what in the texts, with a tokenizer of its own."""
    monkeypatch.setitem(sys.modules, f"{teachers.__name__}.bigrams", bigrams)
    monkeypatch.setattr(teachers, "KINDS", ("bigrams", *teachers.KINDS))
    tokens = TokenShards(finished / "run" / "tokens" / "train")[:]
    counts = np.full((280, 280), 0.1)
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    folder = tmp_path / "table"
    folder.mkdir()
    np.save(folder / bigrams.TABLE, np.log(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(final / name, folder / name)
    return folder


@pytest.fixture
def documents(texts):
    """Real lines, and among them 4 of random letters and 4 of one word over and over."""
    generator = random.Random(0)
    lines = [" ".join(text.split()[start : start + 30]) for text in texts for start in (0, 60, 120)][:32]
    noisy = ["".join(generator.choices(LETTERS, k=150)) for _ in range(4)]
    easy = [" ".join(["the king"] * 20) for _ in range(4)]
    found = lines + noisy + [f"{text}{'!' * number}" for number, text in enumerate(easy)]
    generator.shuffle(found)
    return found, set(noisy)


@pytest.fixture
def recipe(table, documents, tmp_path):
    (tmp_path / "texts").mkdir()
    rows = "".join(json.dumps({"text": text}) + "\n" for text in documents[0])
    (tmp_path / "texts" / "all.jsonl").write_text(rows)
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(folder=table))
    return path


def texts_in(folder):
    return parquet.read_table(folder / "documents.parquet")["text"].to_pylist()


def test_what_is_noise_and_what_is_easy_goes_and_the_rest_is_learned_from(run, recipe, documents, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("run", recipe, "--out", out) == 0, capsys.readouterr().err
    everything, noisy = documents
    assert texts_in(out / "candidates") == everything
    left = texts_in(out / "documents")
    gone = [text for text in everything if text not in left]
    assert len(gone) == 8
    assert noisy <= set(gone)
    assert all(text in noisy or text.startswith("the king the king") for text in gone)
    assert [text for text in everything if text not in gone] == left

    scores = Scores.read(out / "scores" / "table")
    assert len(scores) == 40
    record = json.loads((out / "documents" / "refinery.json").read_text())
    step = record["steps"][-1]
    assert step["name"] == "teacher_score"
    assert (step["documents_in"], step["documents_out"]) == (40, 32)
    assert step["bytes_out"] == sum(len(text.encode()) for text in left)
    assert {entry["position"] for entry in step["dropped"]} == {everything.index(text) + 1 for text in gone}
    assert sum(entry["reason"].startswith("noisy to table: ") for entry in step["dropped"]) == 4
    assert sum("the easiest 10% are below" in entry["reason"] for entry in step["dropped"]) == 4
    assert 0 < step["facts"]["easy below"] < step["facts"]["noisy above"]
    assert sum(number for _, number in record["lengths"]["refined"]) == 32
    dropped = parquet.read_table(out / "documents" / "dropped.parquet").to_pylist()
    assert {row["sample"] for row in dropped} == {text[:400] for text in gone}
    assert {row["step"] for row in dropped} == {"teacher_score"}

    models = json.loads((out / "summary.json").read_text())["models"]
    assert models["table"]["perplexity"] is None  # its tokens are its own, and nobody learns from it
    assert models["small"]["perplexity"] is not None
    assert run("inspect", out / "documents") == 0
    shown = capsys.readouterr().out
    assert "candidates: candidates" in shown
    assert "scores: scores" in shown
    assert f'models.table.from = "1 file, {(tmp_path / "table" / bigrams.TABLE).stat().st_size} bytes' in shown


def test_another_share_remakes_the_documents_and_not_the_scores(run, recipe, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("refine", recipe, "--out", out) == 0, capsys.readouterr().err
    made = {name: (out / name / "manifest.json").stat().st_mtime_ns for name in ("candidates", "scores/table")}
    more = ("refine", recipe, "--out", out, "--set", "refine.teacher_score.drop_noisiest=0.2")
    assert run(*more) == 0
    assert len(texts_in(out / "documents")) == 40 - 8 - 4
    assert made == {name: (out / name / "manifest.json").stat().st_mtime_ns for name in made}
    assert not list(out.glob("**/.*.parts"))


def test_another_model_in_its_place_scores_anew(run, recipe, table, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("refine", recipe, "--out", out) == 0
    np.save(table / bigrams.TABLE, np.full((280, 280), -np.log(280), np.float32))
    assert run("refine", recipe, "--out", out) == 2
    assert "scores/table: models.table.from" in capsys.readouterr().err


def test_a_document_is_explained_with_its_score(run, recipe, documents, tmp_path, capsys):
    out, (everything, noisy) = tmp_path / "run", documents
    place = everything.index(next(iter(noisy))) + 1
    explain = ("refine", recipe, "--out", out, "--explain", f"{tmp_path / 'texts' / 'all.jsonl'}:{place}")
    assert run(*explain) == 0, capsys.readouterr().err
    assert "teacher_score  not reached" in capsys.readouterr().out
    assert not (out / "scores").exists()
    assert run("refine", recipe, "--out", out) == 0
    capsys.readouterr()
    assert run(*explain) == 0
    shown = capsys.readouterr().out
    assert "dropped by teacher_score: noisy to table: " in shown
    bits = Scores.read(out / "scores" / "table").bits_per_byte[place - 1]
    assert f"bits per byte {bits:.4g}" in shown
    assert run("refine", recipe, "--out", out, "--dry-run") == 0
    assert "teacher_score is left out: table would have to read all documents" in capsys.readouterr().err


def test_documents_that_stay_keep_their_scores(run, recipe, documents, tmp_path, monkeypatch, capsys):
    """Another text, of which most was there: only the new is read by the model."""
    out, read = tmp_path / "run", []
    original = scoring.Scorer.score
    monkeypatch.setattr(
        scoring.Scorer, "score", lambda self, texts, *rest: read.extend(texts) or original(self, texts, *rest)
    )
    assert run("refine", recipe, "--out", out) == 0, capsys.readouterr().err
    assert read == documents[0]
    (tmp_path / "texts" / "more.txt").write_text("the king went to the castle and said not a word\n")
    read.clear()
    assert run("refine", recipe, "--out", out, "--remake") == 0
    assert read == ["the king went to the castle and said not a word\n"]
    assert len(Scores.read(out / "scores" / "table")) == 41
    read.clear()
    assert run("refine", recipe, "--out", out, "--set", "refine.language_threshold=0.6") == 0
    assert read == []
    assert len(Scores.read(out / "scores" / "table")) == 41


def test_what_was_interrupted_resumes_with_the_same_bytes(run, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "CHUNK", 500)
    assert run("refine", recipe, "--out", tmp_path / "whole") == 0
    original, counted = scoring.Scorer.score, []

    def score(self, texts, on_read=int):
        counted.append(len(texts))
        if len(counted) == 4:
            raise KeyboardInterrupt
        return original(self, texts, on_read)

    monkeypatch.setattr(scoring.Scorer, "score", score)
    assert run("refine", recipe, "--out", tmp_path / "part") == 130
    assert not (tmp_path / "part" / "scores" / "table").exists()
    assert run("refine", recipe, "--out", tmp_path / "part") == 0, capsys.readouterr().err
    assert sum(counted) == 40 + counted[3]  # no document twice but those of the chunk that was interrupted
    for name in ("scores/table/scores.parquet", "documents/documents.parquet"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('model = "table"', 'model = "small"'), "refine.teacher_score.model = 'small': it is trained here"),
        (('model = "table"', 'model = "tabel"'),
         "refine.teacher_score.model = 'tabel': no such model; did you mean 'table'?"),
        (("drop_noisiest = 0.1", "drop_noisiest = 0.9"),
         "refine.teacher_score: drop_noisiest and drop_easiest sum to 1: less than 1 leaves something"),
        (("[models.small]", '[models.far]\nfrom = "http://127.0.0.1:9/v1"\n[models.small]'), None),
    ],
    ids=["trained here", "unknown", "all of it", "served"],
)  # fmt: skip
def test_what_can_not_judge_is_refused_before_any_work(run, recipe, tmp_path, capsys, change, words):
    written = recipe.read_text().replace(*change)
    if words is None:
        written = written.replace('model = "table"', 'model = "far"')
        words = "refine.teacher_score.model = 'far': far is served and provides its top k only"
    recipe.write_text(written)
    assert run("run", recipe, "--out", tmp_path / "run") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_and_a_gguf_file_score_alike(run, recipe, table, final, tmp_path, capsys):
    """Models as they come, with their own tokenizers: a Gemma 2 in a folder, and the same in a file."""
    export_model(final, tmp_path / "t.gguf", "gguf", "f32")
    found = []
    for place in (final, tmp_path / "t.gguf"):
        recipe.write_text(RECIPE.format(folder=place))
        out = tmp_path / f"from {place.name}"
        assert run("refine", recipe, "--out", out) == 0, capsys.readouterr().err
        found.append(Scores.read(out / "scores" / "table"))
    folder, file = found
    assert folder.tokens.tolist() == file.tokens.tolist()
    np.testing.assert_allclose(folder.loss, file.loss, rtol=1e-4)
    np.testing.assert_allclose(folder.entropy, file.entropy, rtol=1e-4)
    assert 0.5 < folder.overall < 8


def test_its_time_is_estimated(run, recipe, tmp_path, capsys):
    assert run("estimate", recipe, "--out", tmp_path / "run", "--json") == 0
    (scoring,) = json.loads(capsys.readouterr().out)["scoring"]
    assert scoring["name"] == "table"
    assert scoring["seconds"] > 0
    assert run("estimate", recipe, "--out", tmp_path / "run") == 0
    assert "scores of documents by table" in capsys.readouterr().out
