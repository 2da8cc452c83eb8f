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
        (
            'start_from = "FINAL"\narchitecture = { layers = 3, width = 32 }',
            "architecture.layers is 3 and there 2: a model can be cut down, and not grown",
        ),
    ],
)
def test_starting_weights_that_do_not_fit_are_refused(run, finished, text_folder, capsys, start, words):
    final = finished / "run" / "models" / "teacher" / "final"
    more = f"[models.longer]\n{start.replace('FINAL', str(final))}\ntrain = {{ tokens = 512 }}"
    recipe = outside_recipe(text_folder.parent / "o.toml", final, more)
    assert run("run", recipe, "--out", text_folder.parent / "run") == 2
    assert words in capsys.readouterr().err
    assert not (text_folder.parent / "run").exists()


def test_another_architecture_cannot_be_cut(run, finished, text_folder, capsys):
    llama = text_folder.parent / "llama"
    llama.mkdir()
    (llama / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32}')
    (llama / "model.safetensors").write_bytes(b"")
    final = finished / "run" / "models" / "teacher" / "final"
    more = "[models.longer]\nstart_from = 'llama'\narchitecture = { layers = 2 }\ntrain = { tokens = 512 }"
    recipe = outside_recipe(text_folder.parent / "o.toml", final, more)
    assert run("run", recipe, "--out", text_folder.parent / "run") == 2
    assert "start_from = 'llama'" in (said := capsys.readouterr().err)
    assert "model_type is 'llama'; only 'gemma2'" in said


def test_a_student_is_cut_from_an_outside_teacher_and_cut_again(run, finished, text_folder, capsys):
    final = finished / "run" / "models" / "teacher" / "final"  # 2 layers of 4 heads, width 32, ffn width 128
    more = f"""
[models.half]
start_from = "{final}"
architecture = {{ ffn_width = 64 }}
learn_from = "big"
train = {{ tokens = 512, batch_tokens = 256, learning_rate = 1e-4 }}
[models.quarter]
like = "half"
start_from = "half"
architecture = {{ width = 16, ffn_width = 32 }}
"""
    recipe = outside_recipe(text_folder.parent / "o.toml", final, more)
    out = text_folder.parent / "run"
    assert run("run", recipe, "--out", out) == 0
    assert "cut from half (16 of 32 channels, 32 of 64 neurons)" in capsys.readouterr().err
    shapes = {name: json.loads((out / "models" / name / "final" / "config.json").read_text())
              for name in ("half", "quarter")}  # fmt: skip
    assert [shapes["half"][key] for key in ("hidden_size", "intermediate_size", "head_dim")] == [32, 64, 8]
    assert [shapes["quarter"][key] for key in ("hidden_size", "intermediate_size", "head_dim")] == [16, 32, 8]
    models = json.loads((out / "summary.json").read_text())["models"]
    assert models["half"]["kl_to_teacher"] < models["small"]["kl_to_teacher"] / 5  # the small one started anew
    card = (out / "models" / "quarter" / "final" / "README.md").read_text()
    assert "cut from `half` (16 of 32 channels, 32 of 64 neurons) and distilled from `big`" in card
    assert "gemmule export PATH quarter.gguf --format gguf" in card
    assert "cut from half: 16 of 32 channels, 32 of 64 neurons" in (out / "report.html").read_text()
    assert run("run", recipe, "--out", out, "--set", "models.quarter.architecture.ffn_width=16") == 2
    assert "models.quarter.architecture.ffn_width: 32 -> 16" in capsys.readouterr().err
