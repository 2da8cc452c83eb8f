"""A kind of teacher that the package does not know goes through a whole run: its one file is all that it takes."""

from __future__ import annotations

import json
import random
import shutil
import sys

import bigrams
import numpy as np
import pytest

from gemmule.estimate import measuring
from gemmule.teach import teachers
from gemmule.tokenize.shards import TokenShards

RECIPE = """
name = "new"
data = {{ sources = ["texts"], sequence_length = 16, validation_fraction = 0.2 }}
tokenizer = {{ from = "{final}" }}
[models.table]
from = "{folder}"
[models.gemma]
from = "{final}"
[models.live]
architecture = {{ layers = 1, width = 8 }}
learn_from = "table"
train = {{ tokens = 512, batch_tokens = 256 }}
[models.stored]
like = "live"
distill = {{ targets = {{ bytes_per_token = 30 }} }}
[models.both]
like = "live"
learn_from = {{ table = 0.5, gemma = 0.5 }}
[evaluate]
sample_tokens = 3
[machine]
device = "cpu"
compile = false
"""


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS", 0.2)


@pytest.fixture
def recipe(finished, final, text_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, f"{teachers.__name__}.bigrams", bigrams)
    monkeypatch.setattr(teachers, "KINDS", ("bigrams", *teachers.KINDS))
    tokens = TokenShards(finished / "run" / "tokens" / "train")[:]
    counts = np.full((280, 280), 0.1)
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    folder = text_folder.parent / "table"
    folder.mkdir()
    np.save(folder / bigrams.TABLE, np.log(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(final / name, folder / name)
    path = text_folder.parent / "r.toml"
    path.write_text(RECIPE.format(final=final, folder=folder))
    return path


def test_it_teaches_live_and_stored_and_in_an_ensemble_and_is_evaluated(run, recipe, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("run", recipe, "--out", out) == 0, capsys.readouterr().err
    models = json.loads((out / "summary.json").read_text())["models"]
    assert models["table"]["perplexity"] < 20  # of 280 tokens
    assert models["table"]["parameters"] == 280**2
    assert all(models[name]["kl_to_teacher"] > 0 for name in ("live", "stored", "both"))
    evaluation = json.loads((out / "models" / "table" / "evaluation" / "evaluation.json").read_text())
    assert [bool(sample["text"]) for sample in evaluation["samples"]] == [True, True]
    source = json.loads((out / "models" / "table" / "source" / "source.json").read_text())
    assert source == {"source": str(tmp_path / "table"), "kind": "bigrams"}
    assert run("run", recipe, "--out", out) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_another_table_in_its_place_is_another_teacher(run, recipe, tmp_path, capsys):
    assert run("teach", recipe, "--out", tmp_path / "run") == 0
    np.save(tmp_path / "table" / bigrams.TABLE, np.zeros((280, 280), np.float32))
    assert run("teach", recipe, "--out", tmp_path / "run") == 2
    assert "models.table.from" in capsys.readouterr().err


def test_its_size_is_estimated(run, recipe, tmp_path, capsys):
    assert run("estimate", recipe, "--out", tmp_path / "run", "--json") == 0
    models = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert models["table"]["shape"]["parameters"] == 280**2


def test_a_new_recipe_takes_it_for_its_teacher(run, recipe, texts, text_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator, words = random.Random(0), sorted({word for text in texts for word in text.split()})
    more = [" ".join("".join(generator.choices(words, k=2)) for _ in range(8)) for _ in range(1500)]
    (text_folder / "more.txt").write_text("\n\n".join(more))
    assert run("init", "texts", "--teacher", "table", "--minutes", "1", "--out", "new.toml") == 0
    assert 'from = "table"' in (tmp_path / "new.toml").read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("sequence_length = 16", "sequence_length = 16, separate_documents = true"),
         "models.live.learn_from: table is a table of bigrams and can't keep documents apart"),
        (("[models.both]", '[models.longer]\nstart_from = "table"\ntrain = { tokens = 512 }\n[models.both]'),
         "models.longer.start_from: table is a table of bigrams, which provides no weights"),
        (("[models.both]", '[models.longer]\nstart_from = "./table"\ntrain = { tokens = 512 }\n[models.both]'),
         "models.longer.start_from = './table': a table of bigrams provides no weights"),
        (('from = "table"', 'from = "table"\ntop_k = 3'), "top_k is for a model behind a server"),
    ],
    ids=["documents apart", "weights", "weights of a folder", "top k"],
)  # fmt: skip
def test_what_it_can_not_do_is_refused_before_any_work(run, recipe, tmp_path, capsys, change, words):
    recipe.write_text(recipe.read_text().replace(str(tmp_path / "table"), "table").replace(*change))
    assert run("run", recipe, "--out", tmp_path / "run") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
