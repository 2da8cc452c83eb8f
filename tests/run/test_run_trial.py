"""An outside teacher that does worse than a unigram is refused before it teaches, live or stored, served or not."""

from __future__ import annotations

import json

import pytest
import torch
from served_model import FakeServer

import gemmule
from gemmule.model import weights
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.tokenize import load_tokenizer, save

RECIPE = """
name = "t"
data = {{ sources = ["texts/00.txt", "texts/01.txt", "texts/02.txt"], sequence_length = 16 }}
tokenizer = {{ from = "{final}" }}
[models.t]
from = "{teacher}"
[models.s]
architecture = {{ layers = 1, width = 8 }}
learn_from = "t"
train = {{ tokens = 256, batch_tokens = 256 }}
{distill}
[machine]
compile = false
"""


@pytest.fixture
def nonsense(final, tmp_path):
    """A trained model whose table's rows went to other tokens, as with another tokenizer."""
    model = gemmule.load(final)
    with torch.no_grad():
        table = model.model.embed_tokens.weight
        table.copy_(table[torch.randperm(len(table), generator=torch.Generator().manual_seed(0))])
    weights.save(model, tmp_path / "nonsense")
    save(load_tokenizer(final), tmp_path / "nonsense")
    return tmp_path / "nonsense"


@pytest.mark.parametrize("served", [False, True], ids=["folder", "server"])
@pytest.mark.parametrize("stored", [False, True], ids=["live", "stored"])
def test_it_is_refused_before_it_teaches(run, text_folder, final, nonsense, tmp_path, capsys, served, stored):
    server = FakeServer(gemmule.load(nonsense))
    how = '{ kind = "top-k", k = 5 }' if served else "{ tau = 0.1 }"
    path = tmp_path / "r.toml"
    distill = f"distill = {{ targets = {how} }}" if stored else ""
    path.write_text(RECIPE.format(final=final, teacher=server.url if served else nonsense, distill=distill))
    out = tmp_path / "out"
    assert run("train", path, "--out", out) == 1
    said = capsys.readouterr().err
    assert "models.t: " in said
    assert "nats a token on 20 windows of the text, where a unigram (the tokens' frequencies) has" in said
    assert 'models.t.worse_than_unigram = "allow"' in said
    assert not (out / "targets").exists() or not any((out / "targets").iterdir())
    assert not (out / "models" / "s" / "metrics.jsonl").exists()
    assert run("train", path, "--out", out, "--set", 'models.t.worse_than_unigram="allow"') == 0
    assert "training continues with it" in capsys.readouterr().err
    manifest = json.loads((out / "models" / "s" / "final" / "manifest.json").read_text())
    assert "worse_than_unigram" not in json.dumps(manifest)  # it changes nothing that is made
    assert run("train", path, "--out", out) == 0
    server.stop()


def test_of_an_ensemble_the_member_at_fault_is_named(run, text_folder, final, nonsense, tmp_path, capsys):
    path = tmp_path / "r.toml"
    text = RECIPE.format(final=final, teacher=nonsense, distill=f'[models.good]\nfrom = "{final}"')
    path.write_text(text.replace('learn_from = "t"', "learn_from = { good = 0.9, t = 0.1 }"))
    assert run("train", path, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "models.good: " in said
    assert "gemmule: models.t: " in said


def test_a_model_that_is_trained_here_is_not_tried(run, recipe, tmp_path, capsys):
    assert run("train", recipe, "--out", tmp_path / "out", "--model", "student") == 0
    assert "unigram" not in capsys.readouterr().err
    assert run("train", recipe, "--out", tmp_path / "out", "--set", 'models.student.worse_than_unigram="allow"') == 2
    assert "worse_than_unigram is for a teacher from outside" in capsys.readouterr().err


def test_a_fresh_model_is_worse_than_a_unigram_and_a_trained_one_better(run, text_folder, final, tmp_path, capsys):
    weights.save(Gemma2(Gemma2Config(280, 1, 16, 2, 1, 8, 32, 8)).initialise(0), tmp_path / "fresh")
    save(load_tokenizer(final), tmp_path / "fresh")
    path = tmp_path / "r.toml"
    for teacher, status in ((tmp_path / "fresh", 1), (final, 0)):
        path.write_text(RECIPE.format(final=final, teacher=teacher, distill=""))
        assert run("train", path, "--out", tmp_path / f"out{status}") == status
        assert "where a unigram" in capsys.readouterr().err
