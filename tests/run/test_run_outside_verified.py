"""Outside parts of a run that goes on from elsewhere: verified against what was recorded, before they are used."""

from __future__ import annotations

import json
import os
import shutil
import struct

import pytest

from gemmule.base import artifact
from gemmule.base import hub as gemmule_hub
from gemmule.base.errors import WorkError
from gemmule.plan.steps import outside
from gemmule.plan.steps.model import ModelStep
from gemmule.plan.steps.targets import TargetsStep

RECIPE = """
name = "moved"
[data]
sources = ["texts"]
sequence_length = 16
validation_fraction = 0.2
[tokenizer]
from = "A"
[models.big]
from = "A"
[models.small]
architecture = { layers = 1, width = 8 }
learn_from = "big"
train = { tokens = 512, batch_tokens = 256 }
[models.cached]
like = "small"
distill = { targets = { bytes_per_token = 30 } }
[models.longer]
start_from = "A"
train = { tokens = 512, batch_tokens = 256 }
[machine]
compile = false
device = "cpu"
"""


@pytest.fixture
def two(finished, text_folder, monkeypatch):
    """Two folders with the same recipe and text, and another model "A" in each; begun from the first."""
    base = text_folder.parent
    for name in ("w1", "w2"):
        (base / name).mkdir()
        (base / name / "texts").symlink_to(text_folder)
        (base / name / "r.toml").write_text(RECIPE)
        shutil.copytree(finished / "run" / "models" / "teacher" / "final", base / name / "A")
    change(base / "w2" / "A" / "model.safetensors")
    monkeypatch.chdir(base / "w1")
    monkeypatch.setattr(outside, "_hashed", {})  # as in a process of its own
    return base


def change(file):
    """Another weight, in a file of the same size and time."""
    content, times = bytearray(file.read_bytes()), file.stat()
    content[-4:] = struct.pack("<f", 0.25)
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_the_recipe_in_the_run_folder_learns_from_the_model_it_began_with(run, two, monkeypatch):
    out = two / "run"
    assert run("teach", "r.toml", "--out", out) == 0
    monkeypatch.chdir(two / "w2")  # where there is another "A"
    assert run("run", out / "recipe.toml") == 0
    source = json.loads((out / "models" / "big" / "source" / "source.json").read_text())
    assert source["source"] == str(two / "w1" / "A")
    undisturbed = two / "undisturbed"
    monkeypatch.chdir(two / "w1")
    assert run("run", "r.toml", "--out", undisturbed) == 0
    for name in ("small", "cached", "longer"):
        file = f"models/{name}/final/model.safetensors"
        assert (out / file).read_bytes() == (undisturbed / file).read_bytes()


def test_a_run_of_the_version_before_recorded_a_relative_path(run, two, monkeypatch):
    """It is the recipe that says where the model lies."""
    out = two / "run"
    assert run("tokenize", "r.toml", "--out", out) == 0
    assert run("train", "r.toml", "--model", "small", "--out", out) == 0
    shutil.rmtree(out / "models" / "small")
    source = out / "models" / "big" / "source"
    record = json.loads((source / "source.json").read_text()) | {"source": "A"}
    settings = artifact.read(source).settings
    shutil.rmtree(source)
    inputs = {"tokenizer": artifact.read(out / "tokenizer")}
    with artifact.publish(source, "outside", settings=settings, inputs=inputs) as folder:
        artifact.write_json(folder / "source.json", record)
    monkeypatch.chdir(two / "w2")
    (two / "w2" / "A" / "model.safetensors").write_bytes(b"no weights at all")
    assert run("train", out / "recipe.toml", "--model", "small", "--out", out) == 0


@pytest.mark.parametrize("verb", ["run", "tokenize", "teach", "worker", "train", "evaluate"])
def test_another_model_of_the_same_name_is_refused_and_both_are_named(run, two, monkeypatch, contents, capsys, verb):
    out = two / "run"
    assert run("teach", "r.toml", "--out", out) == 0
    shutil.copytree(out, two / "before")
    monkeypatch.chdir(two / "w2")
    change(two / "w2" / "A" / "tokenizer.json") if verb == "tokenize" else None
    given = ["teach", "r.toml", "--worker", "1/2"] if verb == "worker" else [verb, "r.toml"]
    capsys.readouterr()
    assert run(*given, "--out", out) == 2
    said = capsys.readouterr().err
    assert f"({two / 'w1' / 'A'} -> {two / 'w2' / 'A'})" in said
    assert ("tokenizer.from: " if verb == "tokenize" else "models.big.from: ") in said
    assert contents(out) == contents(two / "before")


@pytest.mark.parametrize(
    ("model", "key"), [("small", "big.from"), ("cached", "big.from"), ("longer", "longer.start_from")]
)
def test_a_model_that_changed_in_its_place_is_refused(run, two, monkeypatch, capsys, model, key):
    """The plan's look goes by size and time of change, which are as they were: it is read again before it is used."""
    out = two / "run"

    def stop(*arguments):
        raise WorkError("stopped before anything is loaded")

    with monkeypatch.context() as patch:
        patch.setattr(TargetsStep if model == "cached" else ModelStep, "make", stop)
        assert run("train", "r.toml", "--model", model, "--out", out) == 1
    assert (out / "models" / key.replace(".", "/").replace("start_from", "start").replace("from", "source")).is_dir()
    change(two / "w1" / "A" / "model.safetensors")
    capsys.readouterr()
    assert run("train", "r.toml", "--model", model, "--out", out) == 2
    said = capsys.readouterr().err
    assert f"models.{key}: {two / 'w1' / 'A'} holds another model (" in said
    assert f"than this run was begun with: {two / 'w1' / 'A'} (" in said


def test_a_hub_model_of_another_revision_is_refused(run, two, monkeypatch, capsys):
    recipe, out, hub = two / "w1" / "r.toml", two / "run", two / "hub"
    recipe.write_text(RECIPE.replace('[models.big]\nfrom = "A"', '[models.big]\nfrom = "some/one"'))
    (two / "w1" / "A").rename(hub)
    (two / "w1" / "A").symlink_to(hub)
    find = gemmule_hub.find_folder

    def found(source, *arguments, **named):
        return hub if source == "some/one" else find(source, *arguments, **named)

    monkeypatch.setattr(gemmule_hub, "find_folder", found)
    assert run("train", recipe, "--model", "small", "--out", out) == 0
    shutil.rmtree(out / "models" / "small")
    shutil.copytree(hub, two / "revision")
    change(two / "revision" / "model.safetensors")
    hub.rename(two / "before")
    (two / "revision").rename(hub)
    outside._hashed.clear()
    assert run("train", recipe, "--model", "small", "--out", out) == 2
    assert "models.big.from: " in (said := capsys.readouterr().err)
    assert "holds another model" in said
    assert "begun with: some/one (2 files" in said


def test_the_same_model_may_have_moved(run, two, monkeypatch):
    out = two / "run"
    assert run("teach", "r.toml", "--out", out) == 0
    shutil.rmtree(two / "w2" / "A")
    (two / "w1" / "A").rename(two / "w2" / "A")
    monkeypatch.chdir(two / "w2")
    assert run("run", "r.toml", "--out", out) == 0


def test_a_model_that_is_gone_is_needed_only_where_it_is_loaded(run, two, capsys):
    """A run that was copied to another machine is reported, and goes on with what needs no teacher."""
    out, recipe = two / "run", two / "run" / "recipe.toml"
    text = RECIPE.replace('[models.longer]\nstart_from = "A"', '[models.longer]\nlike = "small"\nlearn_from = "none"')
    (two / "w1" / "r.toml").write_text(text)
    assert run("teach", "r.toml", "--out", out) == 0
    (two / "w1" / "A").rename(two / "gone")
    assert run("report", out) == 0
    for model in ("cached", "longer"):
        assert run("train", recipe, "--model", model) == 0
    capsys.readouterr()
    assert run("train", recipe, "--model", "small") == 2
    assert f"{two / 'w1' / 'A'}: no such folder" in capsys.readouterr().err
    for other in ("B", "some/one"):  # never read by this run
        (two / "w1" / "r.toml").write_text(text.replace('"A"', f'"{other}"'))
        assert run("train", "r.toml", "--out", out) == 2
        said = capsys.readouterr().err
        assert "no such folder" in said or '-> "hub: some/one"' in said
    (two / "gone").rename(two / "w1" / "A")
    assert run("run", recipe) == 0


def test_a_model_of_the_recipe_is_no_folder_that_has_its_name(run, two):
    (two / "w1" / "big").mkdir()
    recipe = two / "w1" / "r.toml"
    recipe.write_text(RECIPE.replace('[tokenizer]\nfrom = "A"', '[tokenizer]\nfrom = "big"'))
    assert run("tokenize", recipe, "--out", two / "run") == 0
    assert 'from = "big"' in (two / "run" / "recipe.toml").read_text()
    assert run("tokenize", two / "run" / "recipe.toml") == 0
