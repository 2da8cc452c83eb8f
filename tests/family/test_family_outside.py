"""Models from outside the recipe: a teacher, starting weights, and those that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def outside_recipe(path: Path, final: Path, extra: str = "") -> Path:
    path.write_text(f"""
name = "outside"
[data]
sources = ["texts"]
sequence_length = 16
[tokenizer]
from = "{final}"
[models.big]
from = "{final}"
[models.small]
architecture = {{ layers = 1, width = 8 }}
learn_from = "big"
train = {{ tokens = 512, batch_tokens = 256 }}
[evaluate]
sample_tokens = 3
[machine]
compile = false
{extra}
""")
    return path


def test_an_outside_teacher_and_starting_weights(run, finished, text_folder):
    final = finished / "run" / "models" / "teacher" / "final"
    more = f'[models.longer]\nstart_from = "{final}"\ntrain = {{ tokens = 512, batch_tokens = 256 }}'
    recipe = outside_recipe(text_folder.parent / "o.toml", final, more)
    out = text_folder.parent / "run"
    assert run("run", recipe, "--out", out) == 0
    models = json.loads((out / "summary.json").read_text())["models"]
    assert models["small"]["kl_to_teacher"] > 0
    assert models["big"]["train_tokens"] is None
    assert models["longer"]["perplexity"] < models["big"]["perplexity"] * 1.05
    first = json.loads((out / "models" / "longer" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] < 4  # from random weights it would be log 280 = 5.6
    assert run("inspect", out / "models" / "small" / "final") == 0


def test_a_teacher_of_another_tokenizer_is_refused(run, finished, text_folder, capsys):
    final = finished / "run" / "models" / "teacher" / "final"
    recipe = outside_recipe(text_folder.parent / "o.toml", final)
    recipe.write_text(
        recipe.read_text().replace(f'[tokenizer]\nfrom = "{final}"', "[tokenizer]\nvocabulary_size = 270")
    )
    assert run("run", recipe, "--out", text_folder.parent / "run") == 2
    said = capsys.readouterr().err
    assert "big" in said
    assert "tokenizer" in said
    assert not (text_folder.parent / "run" / "tokens").exists()


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ('start_from = "nowhere"', "no such folder"),
        ('start_from = "texts"', "config.json"),
        ('start_from = "FINAL"\narchitecture = { layers = 3, width = 32 }', "architecture.layers is 3 and there 2"),
    ],
)
def test_starting_weights_that_do_not_fit_are_refused(run, finished, text_folder, capsys, start, words):
    final = finished / "run" / "models" / "teacher" / "final"
    more = f"[models.longer]\n{start.replace('FINAL', str(final))}\ntrain = {{ tokens = 512 }}"
    recipe = outside_recipe(text_folder.parent / "o.toml", final, more)
    assert run("run", recipe, "--out", text_folder.parent / "run") == 2
    assert words in capsys.readouterr().err
    assert not (text_folder.parent / "run").exists()
