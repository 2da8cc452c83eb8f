"""A family whose layers are all of one kind: trained, cut, measured, and read again from its folders."""

from __future__ import annotations

import json

from transformers import AutoConfig

from gemmule.model.weights import read_config

RECIPE = """
name = "local"
[data]
sources = ["texts"]
sequence_length = 32
validation_fraction = 0.2
[tokenizer]
vocabulary_size = 280
[models.teacher]
architecture = { layers = 3, width = 16, window = 4, attention = "local" }
train = { tokens = 1024, batch_tokens = 256 }
[models.cut]
start_from = "teacher"
architecture = { layers = 2 }
learn_from = "teacher"
train = { tokens = 512, batch_tokens = 256 }
[models.global]
like = "teacher"
architecture = { attention = "global" }
[evaluate]
sample_tokens = 5
[machine]
device = "cpu"
compile = false
"""


def test_a_recipe_says_the_kind_of_all_layers(run, text_folder, capsys):
    recipe, out = text_folder.parent / "local.toml", text_folder.parent / "run"
    recipe.write_text(RECIPE)
    assert run("run", recipe, "--out", out) == 0
    finals = {name: out / "models" / name / "final" for name in ("teacher", "cut", "global")}
    kinds = {name: AutoConfig.from_pretrained(final).layer_types for name, final in finals.items()}
    assert kinds == {"teacher": ["sliding_attention"] * 3, "cut": ["sliding_attention"] * 2,
                     "global": ["full_attention"] * 3}  # fmt: skip
    assert read_config(finals["cut"]).attention == "local"
    models = json.loads((out / "summary.json").read_text())["models"]
    assert models["cut"]["perplexity"] < 280
    assert models["global"]["train_flops"] > models["teacher"]["train_flops"]  # more keys to see

    capsys.readouterr()
    recipe.write_text(RECIPE.replace('"local" }', '"sliding" }'))
    assert run("run", recipe, "--out", out) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("models.teacher.architecture.attention", "sliding", "alternating", "global"))
    recipe.write_text(RECIPE.replace("layers = 2 }", 'layers = 2, attention = "global" }'))
    assert run("run", recipe, "--out", text_folder.parent / "other") == 2
    assert "attention is global and there local: a cut can't change it" in capsys.readouterr().err
