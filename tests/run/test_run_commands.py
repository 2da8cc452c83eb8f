"""The other verbs of the command line on a run: one step, one model; inspect, generate; wrong arguments."""

from __future__ import annotations

import json
import shutil

import pytest

import gemmule
from gemmule import cli
from gemmule.plan.steps.tokenizer import TokenizerStep
from gemmule.teach.targets.store import TargetStore


def test_verbs_make_their_step_and_what_it_needs(run, recipe, capsys):
    out = recipe.parent / "run"
    assert run("refine", recipe, "--out", out) == 0
    assert sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) == [
        "documents",
        "recipe.toml",
        "status.json",
    ]
    assert run("tokenize", recipe, "--out", out) == 0
    assert (out / "tokens" / "validation" / "manifest.json").exists()
    assert run("train", recipe, "--model", "control", "--out", out) == 0
    assert [p.name for p in (out / "models").iterdir()] == ["control"]
    assert run("teach", recipe, "--out", out) == 0
    assert len(TargetStore(out / "targets" / "teacher")) > 0
    assert not (out / "models" / "student").exists()
    assert run("evaluate", recipe, "--model", "control", "--out", out) == 0
    assert (out / "models" / "control" / "evaluation" / "evaluation.json").exists()
    assert run("train", recipe, "--model", "controll", "--out", out) == 2
    assert "controll: no such model" in capsys.readouterr().err


def test_a_verb_is_a_line_and_the_step_that_it_makes(run, recipe, monkeypatch, capsys):
    """One more, of a step that has none; and it is resumed as the others are."""
    monkeypatch.setattr(TokenizerStep, "verb", "learn")
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    monkeypatch.setattr(cli, "RESUMABLE", {*cli.RESUMABLE})
    cli._verb("learn", "documents into a tokenizer")
    assert run("learn", recipe, "--out", recipe.parent / "run") == 0
    assert {path.name for path in (recipe.parent / "run").iterdir()} >= {"documents", "tokenizer"}
    assert not (recipe.parent / "run" / "tokens").exists()
    assert run("learn", "--help") == 0
    assert "One step of a recipe: documents into a tokenizer." in capsys.readouterr().out
    assert "learn" in cli.RESUMABLE


def test_inspect_tells_the_ancestry_and_finds_damage(run, copy, capsys):
    final = copy / "run" / "models" / "cached" / "final"
    assert run("inspect", final) == 0
    said = capsys.readouterr().out
    for word in (
        "targets: targets",
        "teacher: model",
        "documents: documents",
        "verified",
        "models.cached.train.tokens",
    ):
        assert word in said
    assert run("inspect", copy / "run", "--json") == 0
    kinds = {entry["kind"] for entry in json.loads(capsys.readouterr().out)}
    assert kinds == {"documents", "tokenizer", "tokens", "targets", "model", "checkpoint", "evaluation"}
    (final / "README.md").write_text("a card tells of a model and is no part of it")
    assert run("inspect", final) == 0
    config = final / "config.json"
    config.write_bytes(config.read_bytes().replace(b"gemma2", b"Gemma2"))
    assert run("inspect", final) == 1
    assert "config.json" in capsys.readouterr().err
    assert run("inspect", copy / "texts") == 2


def test_generate_is_reproducible_by_seed(run, finished, capsys):
    final = finished / "run" / "models" / "student" / "final"
    wishes = ("generate", final, "the king", "--max-new-tokens", "20", "--seed")
    said = []
    for seed in (3, 3, 4):
        assert run(*wishes, seed) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("the king")
    assert run(*wishes, 3, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "the king" + told["text"] + "\n" == said[0]
    assert run("generate", finished / "texts", "x") == 2
    assert run("generate", final, "x", "--temperature", "-1") == 2


@pytest.mark.parametrize("arguments", [["fly"], ["run"], ["run", "x.toml", "--sett", "a=b"], ["generate", "x"]])
def test_wrong_arguments(run, arguments, capsys):
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_traceback(run, recipe):
    with pytest.raises(gemmule.base.errors.RequestError):
        run("run", recipe.parent / "nowhere.toml", "--debug")


def test_a_model_whose_name_is_no_text_is_named(run, finished, tmp_path, capsys):
    """The libraries that read tokenizers and weights take UTF-8 alone."""
    folder = tmp_path / "model\udcff\x1b[2J"
    shutil.copytree(finished / "run" / "models" / "control" / "final", folder)
    assert run("generate", folder, "x", "--max-new-tokens", 1) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"gemmule: {tmp_path}/model\\xff\\x1b[2J/tokenizer.json: ")
    assert "utf-8" in said
    assert run("import", folder, tmp_path / "copy") == 1
    assert run("export", folder, tmp_path / "copy", "--format", "gguf") == 1
    assert "Traceback" not in capsys.readouterr().err
