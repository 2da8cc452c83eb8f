"""Families whose teacher has a tokenizer of its own: by approximate likelihood matching, and by bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from large_tokenizers import save_teacher

RECIPE = """
name = "alm"
[data]
sources = ["texts"]
sequence_length = 16
validation_fraction = 0.2
[tokenizer]
vocabulary_size = 280
[models.big]
from = "teacher"
worse_than_unigram = "allow"  # its weights are random
[models.student]
architecture = { layers = 1, width = 16 }
learn_from = "big"
distill = { loss = "alm", next_token_weight = 0.5 }
train = { tokens = 512, batch_tokens = 256 }
[models.control]
like = "student"
learn_from = "none"
[evaluate]
sample_tokens = 3
[machine]
compile = false
"""


@pytest.fixture
def recipe(text_folder: Path) -> Path:
    save_teacher(text_folder.parent / "teacher", 998)
    path = text_folder.parent / "alm.toml"
    path.write_text(RECIPE)
    return path


def test_a_student_with_its_own_tokenizer_learns_from_it(run, recipe, capsys):
    out = recipe.parent / "run"
    assert run("run", recipe, "--out", out) == 0
    assert "big: not evaluated: it has a tokenizer of its own" in capsys.readouterr().err
    models = json.loads((out / "summary.json").read_text())["models"]
    assert models["student"]["kl_to_teacher"] is None
    assert models["big"]["perplexity"] is None
    first = {
        name: json.loads((out / "models" / name / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        for name in ("student", "control")
    }
    assert (
        0 < first["student"] < 0.7 * first["control"]
    )  # half its loss, and a part that is smaller than the other half


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({'loss = "alm"': 'loss = "forward_kl"'}, ["big", "by_bytes", "tokenizer.prune"]),
        ({'from = "teacher"': 'from = "teacher"\nby_bytes = true'}, ["big.by_bytes", "alm"]),
        ({'like = "student"': 'like = "student"\nby_bytes = true'}, ["control", "by_bytes", "from outside"]),
        ({'loss = "alm"': 'loss = "alm", targets = {}'}, ["alm", "no distributions to store"]),
        ({'loss = "alm"': 'loss = "alm", temperature = 2.0'}, ["alm", "soften"]),
        ({'learn_from = "none"': "distill.loss = 'jsd'"}, ["big has students with other losses"]),
        ({'from = "teacher"': "architecture = { layers = 1, width = 8 }\ntrain = { tokens = 512 }"}, ["from outside"]),
    ],
)
def test_what_can_not_be_learned_so_is_refused(run, recipe, capsys, change, words):
    for old, new in change.items():
        assert old in RECIPE
        recipe.write_text(RECIPE.replace(old, new))
    assert run("run", recipe, "--out", recipe.parent / "run") == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


@pytest.mark.parametrize("distill", ["{}", '{ loss = "jsd" }', "{ targets = { bytes_per_token = 30 } }"])
def test_by_bytes_it_learns_whole_distributions(run, recipe, capsys, distill):
    text = RECIPE.replace('{ loss = "alm", next_token_weight = 0.5 }', distill)
    text = text.replace("tokens = 512", "tokens = 4096")
    recipe.write_text(text.replace('from = "teacher"', 'from = "teacher"\nby_bytes = true'))
    out = recipe.parent / "run"
    assert run("run", recipe, "--out", out) == 0, capsys.readouterr().err
    assert "big: not evaluated: it has a tokenizer of its own" in capsys.readouterr().err
    models = json.loads((out / "summary.json").read_text())["models"]
    assert 0 < models["student"]["kl_to_teacher"] < models["control"]["kl_to_teacher"]
