"""Settings or text that changed since a run was made: named and refused, or made anew with --remake."""

from __future__ import annotations

import shutil


def test_changed_settings_are_named_and_nothing_is_touched(run, contents, copy, capsys):
    before = contents(copy / "run")
    for verb in (("run",), ("train", "--model", "teacher")):  # what follows is named, asked for or not
        wish = ("--set", "models.teacher.train.clip=0.5", "--out", copy / "run")
        assert run(*verb, copy / "tiny.toml", *wish) == 2
        said = capsys.readouterr().err
        assert said.count("models.teacher.train.clip: 1.0 -> 0.5") == 1
        for follower in ("models/student/final", "targets/teacher", "models/cached/final", "models/control/evaluation"):
            assert follower in said
        assert "models/control/final" not in said  # it learned without the teacher
        assert "--remake" in said
    assert contents(copy / "run") == before


def test_remake_moves_the_old_and_keeps_the_rest(run, contents, copy):
    out = copy / "run"
    student, control = (contents(out / "models" / name / "final") for name in ("student", "control"))
    tokens = (out / "tokens" / "train" / "manifest.json").stat().st_mtime_ns
    assert run("run", copy / "tiny.toml", "--set", "models.student.train.clip=0.5", "--out", out, "--remake") == 0
    assert contents(out / "old" / "models" / "student-1" / "final") == student
    assert contents(out / "models" / "student" / "final") != student
    assert (out / "old" / "models" / "cached-1").is_dir()  # like = "student"
    assert contents(out / "old" / "models" / "control-1" / "final") == control
    assert (out / "tokens" / "train" / "manifest.json").stat().st_mtime_ns == tokens
    assert "clip = 0.5" in (out / "recipe.toml").read_text()
    assert run("run", copy / "tiny.toml", "--out", out) == 2  # now the recipe as written is the other one


def test_changed_text_is_noticed(run, copy, capsys):
    with (copy / "texts" / "03.txt").open("a") as file:
        file.write("a new line\n")
    assert run("run", copy / "tiny.toml", "--out", copy / "run") == 2
    assert "documents: data.sources: " in capsys.readouterr().err


def test_settings_that_make_nothing_stale(run, copy, capsys):
    assert run("run", copy / "tiny.toml", "--out", copy / "run", "--set", "models.student.train.checkpoint_every=3",
               "--set", "machine.compile=true") == 0  # fmt: skip
    assert "nothing to do" in capsys.readouterr().err


def test_interrupted_training_does_not_go_on_with_other_settings(run, recipe, capsys):
    out = recipe.parent / "run"
    assert run("train", recipe, "--model", "control", "--out", out) == 0
    shutil.rmtree(out / "models" / "control" / "final")
    assert run("train", recipe, "--model", "control", "--out", out, "--set", "models.student.train.clip=0.3") == 2
    assert "models.control.train.clip: 1.0 -> 0.3" in capsys.readouterr().err
