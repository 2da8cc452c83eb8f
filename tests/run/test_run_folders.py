"""What a user made is never replaced: gemmule writes only into folders that it made."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gemmule.base import run_folder


def everything(folder: Path) -> dict[str, object]:
    """Each thing beneath a folder: a file's bytes, a link's target, None for a folder."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def project(recipe, monkeypatch):
    """A user's folder: a recipe with a comment, text, a report of their own."""
    folder = recipe.parent
    recipe.rename(folder / "recipe.toml")
    (folder / "recipe.toml").write_text("# mine\n" + (folder / "recipe.toml").read_text())
    (folder / "report.html").write_text("my report")
    (folder / "summary.json").write_text("my summary")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("verb", ["run", "demo", "refine", "tokenize", "teach", "train", "evaluate", "worker"])
@pytest.mark.parametrize("out", [".", "", " ", "texts", "../{name}"])
def test_a_folder_that_gemmule_did_not_make_is_refused(run, project, capsys, verb, out):
    before = everything(project)
    arguments = {"demo": ["demo"], "worker": ["teach", "recipe.toml", "--worker", "1/2"]}
    given = arguments.get(verb, [verb, "recipe.toml"])
    assert run(*given, "--out", out.format(name=project.name)) == 2
    said = capsys.readouterr().err
    assert "contains files that gemmule did not make (" in said or "an empty path names no file" in said
    assert everything(project) == before


@pytest.mark.parametrize("folder", [".", "", "texts", "nowhere"])
def test_a_report_is_written_of_runs_alone(run, project, folder):
    before = everything(project)
    assert run("report", folder) == 2
    assert everything(project) == before


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("file", "a file, not a folder"),
        ("file/run", "file/run: can't be written: Not a directory"),
        ("dangling", "a link to nothing, which does not exist"),
        ("x" * 300, "File name too long"),
        ("/dev/null", "a file, not"),
        ("run\udcff", "run\\xff: a name that is not UTF-8"),
    ],
)
def test_a_place_where_no_run_can_be(run, project, capsys, out, words):
    (project / "file").write_text("mine")
    (project / "dangling").symlink_to("nothing")
    before = everything(project)
    assert run("run", "recipe.toml", "--out", out) == 2
    assert words in capsys.readouterr().err
    assert everything(project) == before


def test_a_folder_that_may_not_be_written(run, project, capsys):
    disk = project / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        for out in ("disk", "disk/run"):
            assert run("run", "recipe.toml", "--out", out) == 2
            assert "can't be written: Read-only file system" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_empty_folders_and_what_a_killed_start_left_are_free(run, project):
    for number, names in enumerate([(), (".lock",), (".lock", "status.json")]):
        out = project / str(number)
        out.mkdir()
        for name in names:
            (out / name).write_text("")
        assert run("refine", "recipe.toml", "--out", out) == 0
    (project / "link").symlink_to("0")
    assert run("refine", "recipe.toml", "--out", "link") == 0
    (project / "other").mkdir()
    (project / "other" / "status.json").write_text("mine")
    assert run("refine", "recipe.toml", "--out", "other") == 2


def test_a_run_is_known_without_its_hidden_files_and_of_the_version_before(finished, tmp_path):
    assert run_folder.is_run(finished / "run")
    (tmp_path / "copied").mkdir()
    for path in (finished / "run").glob("[!.]*"):  # as `cp -r run/* copied` leaves it
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / "copied" / path.name)
    assert run_folder.is_run(tmp_path / "copied")
    assert not run_folder.is_run(tmp_path / "copied" / "models")


def test_without_a_recipe_it_is_the_one_that_lies_here(run, project, monkeypatch, capsys):
    for verb in ("refine", "tokenize"):
        assert run(verb) == 0
    assert (project / "runs" / "tiny" / "tokens").is_dir()
    monkeypatch.chdir(project / "texts")
    for verb in ("run", "refine", "tokenize", "teach", "train", "evaluate", "estimate"):
        capsys.readouterr()
        assert run(verb) == 2
        assert "there is no recipe.toml here: name a recipe, or write one with gemmule init" in (
            " ".join(capsys.readouterr().err.split())
        )


@pytest.fixture
def made(run, project):
    """A run folder with its documents, and the recipe that it was made by."""
    assert run("refine", "recipe.toml", "--out", "run") == 0
    return project / "run", project / "recipe.toml"


def test_the_recipe_in_a_run_folder_resumes_and_is_rewritten_only_where_gemmule_wrote_it(run, made):
    out, recipe = made
    mine, written = recipe.read_bytes(), (out / "recipe.toml").read_bytes()
    assert run("refine", out / "recipe.toml") == 0
    assert (out / "recipe.toml").read_bytes() == written
    assert run("refine", out / "recipe.toml", "--set", "seed=5") == 0
    assert "seed = 5" in (out / "recipe.toml").read_text()
    assert recipe.read_bytes() == mine


def test_a_recipe_that_was_changed_by_hand_stays(run, made, capsys):
    out, recipe = made
    own = out / "recipe.toml"
    own.write_text("# my notes\n" + own.read_text())
    edited = own.read_text()
    assert run("refine", own) == 0
    assert own.read_text() == edited
    capsys.readouterr()
    assert run("refine", own, "--set", "seed=5") == 2
    assert "changed by hand, so that --set can't be written into it" in capsys.readouterr().err
    assert own.read_text() == edited
    assert run("refine", recipe, "--out", out) == 0
    assert (out / "old" / "recipe-1.toml").read_text() == edited
    assert "# my notes" not in own.read_text()


@pytest.mark.parametrize("link", ["hard", "symbolic", "to the run's"])
@pytest.mark.parametrize("given", ["recipe.toml", "run/recipe.toml"])
def test_a_recipe_is_not_written_through_a_link(run, made, link, given):
    out, recipe = made
    inside = out / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('"texts"', f'"{recipe.parent / "texts"}"'))
    if link == "to the run's":
        shutil.copy(recipe, inside)
        recipe.unlink()
        recipe.symlink_to("run/recipe.toml")
    else:
        inside.unlink()
        inside.hardlink_to(recipe) if link == "hard" else inside.symlink_to("../recipe.toml")
    before = recipe.read_bytes()
    assert run("refine", given, "--out", "run") == 0
    assert recipe.read_bytes() == before
    assert (out / "recipe.toml").read_bytes() == before


def test_results_of_what_was_remade_move_to_old(run, copy):
    out = copy / "run"
    report, summary = (out / "report.html").read_bytes(), (out / "summary.json").read_bytes()
    change = ("--set", "models.control.train.clip=0.5", "--remake")
    assert run("train", copy / "tiny.toml", "--out", out, "--model", "control", *change) == 0
    assert not (out / "summary.json").exists()
    assert (out / "old" / "summary-1.json").read_bytes() == summary
    assert (out / "old" / "report-1.html").read_bytes() == report


@pytest.mark.parametrize("there", ["file", "folder", "link"])
@pytest.mark.parametrize("verb", ["init", "import", "export", "gguf"])
def test_other_verbs_replace_nothing(run, finished, tmp_path, capsys, verb, there):
    out, final = tmp_path / "out", finished / "run" / "models" / "control" / "final"
    {"file": out.touch, "folder": out.mkdir, "link": lambda: out.symlink_to("nothing")}[there]()
    before = everything(tmp_path)
    arguments = {
        "init": ["init", finished / "texts", "--out", out],
        "import": ["import", final, out],
        "export": ["export", final, out, "--format", "hf"],
        "gguf": ["export", final, out, "--format", "gguf"],
    }
    assert run(*arguments[verb]) == 2
    assert "exists already" in capsys.readouterr().err
    assert everything(tmp_path) == before


@pytest.mark.parametrize("verb", ["init", "import", "export", "report", "inspect", "run"])
def test_an_empty_path_is_not_the_working_directory(run, project, finished, capsys, verb):
    final = finished / "run" / "models" / "control" / "final"
    arguments = {"init": ["texts", "--out", ""], "import": [final, ""], "export": [final, ""]}
    before = everything(project)
    assert run(verb, *arguments.get(verb, [""]), *(["--format", "hf"] if verb == "export" else [])) == 2
    assert "an empty path names no file or folder" in capsys.readouterr().err
    assert everything(project) == before


def test_what_lies_beside_an_export_stays(run, finished, tmp_path):
    final = finished / "run" / "models" / "control" / "final"
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "mine").write_text("mine")
    assert run("export", final, tmp_path / "out", "--format", "hf") == 0
    assert sorted(os.listdir(tmp_path)) == [".out.tmp", "out"]
    assert (tmp_path / ".out.tmp" / "mine").read_text() == "mine"
    (tmp_path / ".out.gguf.tmp").write_text("mine")
    assert run("export", final, tmp_path / "out.gguf", "--format", "gguf") == 0
    assert (tmp_path / ".out.gguf.tmp").read_text() == "mine"
