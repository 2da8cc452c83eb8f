"""A run folder copied to another machine: it goes on there, by its own recipe, without the text that is not there."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture
def moved(copy, tmp_path):
    """A half-finished run's folder at another path; the text, the recipe and the first folder are gone."""
    out = tmp_path / "elsewhere" / "copied"
    shutil.copytree(copy / "run", out)
    shutil.rmtree(copy)
    for name in ("student", "control"):
        shutil.rmtree(out / "models" / name / "evaluation")
        shutil.rmtree(out / "models" / name / "final")
    shutil.rmtree(out / "models" / "student" / "checkpoints" / "step-00000008")
    return out


def test_it_goes_on_with_its_own_recipe(run, moved, finished, contents, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # the copied recipe names the first machine's text
    recipe = moved / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(str(finished), "/nowhere"))
    assert run("run", recipe) == 0
    said = capsys.readouterr().err
    assert "/nowhere/texts: no such file or folder" in said
    assert f"continuing with {moved / 'documents'}" in said
    assert not (tmp_path / "runs").exists()
    for name in ("student", "control"):
        path = f"models/{name}/final/model.safetensors"
        assert (moved / path).read_bytes() == (finished / "run" / path).read_bytes()
    assert run("run", recipe) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_documents_that_would_have_to_be_made_again_stop_it(run, moved, finished, contents, capsys):
    recipe = moved / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(str(finished), "/nowhere"))
    before = contents(moved)
    change = ("--set", "data.validation_fraction=0.5", "--remake")
    assert run("run", recipe, *change) == 2
    assert "/nowhere/texts: no such file or folder" in capsys.readouterr().err
    assert {**contents(moved), "status.json": before["status.json"]} == before


def test_without_documents_the_text_is_needed(run, recipe, text_folder, capsys):
    shutil.rmtree(text_folder)
    assert run("run", recipe, "--out", recipe.parent / "run") == 2
    assert "texts: no such file or folder" in capsys.readouterr().err
