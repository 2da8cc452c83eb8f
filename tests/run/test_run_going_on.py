"""A finished model whose schedule changed is trained on from where that makes no difference yet."""

from __future__ import annotations

import json
import shutil

MORE = ("--set", "models.student.train.tokens=4096")  # `cached` and `control` are like the student
NAMES = ("student", "cached", "control")


def steps_of(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_more_tokens_train_on_and_end_as_if_asked_for_at_first(run, copy, recipe, contents, capsys):
    out, whole = copy / "run", copy / "whole"
    teacher, before = contents(out / "models" / "teacher"), contents(out / "models" / "control" / "final")
    assert run("run", copy / "tiny.toml", "--out", out, *MORE) == 0
    assert "student: goes on from step 4 of 16" in capsys.readouterr().err
    assert run("run", copy / "tiny.toml", "--out", whole, *MORE) == 0
    for name in NAMES:
        ours, theirs = (folder / "models" / name / "final" / "model.safetensors" for folder in (out, whole))
        assert ours.read_bytes() == theirs.read_bytes()
        assert steps_of(ours.parent.parent) == steps_of(theirs.parent.parent)
    assert contents(out / "models" / "teacher") == teacher
    assert contents(out / "old" / "models" / "control" / "final-1") == before
    assert steps_of(out / "models" / "control")[-1] == 16
    figures = json.loads((out / "summary.json").read_text())["models"]["control"]
    assert figures["train_tokens_asked"] == 4096
    assert run("run", copy / "tiny.toml", "--out", out, *MORE) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_an_interrupted_training_goes_on_with_more_tokens_too(run, copy, capsys):
    out = copy / "run"
    control = out / "models" / "control"
    shutil.rmtree(control / "final")
    assert run("train", copy / "tiny.toml", "--model", "control", "--out", out, *MORE) == 0
    assert "control: goes on from step 4 of 16" in capsys.readouterr().err
    for path in (control / "checkpoints").iterdir():  # as if it had been interrupted at that step
        if path.name != "step-00000008":  # the longer one's stem
            shutil.rmtree(path)
    shutil.rmtree(control / "final")
    longer = ("--set", "models.student.train.tokens=8192")
    assert run("train", copy / "tiny.toml", "--model", "control", "--out", out, *longer) == 0
    assert "control: resuming from step 8 of 32" in capsys.readouterr().err


def test_another_end_of_the_schedule_begins_where_the_rate_fell(run, copy, capsys):
    wish = ("--set", "models.control.train.final_learning_rate_fraction=0.0")
    assert run("train", copy / "tiny.toml", "--model", "control", "--out", copy / "run", *wish) == 0
    assert "control: goes on from step 4 of 8" in capsys.readouterr().err


def test_what_learned_from_a_model_is_not_remade_unasked(run, copy, contents, capsys):
    before = contents(copy / "run")
    more = ("--set", "models.teacher.train.tokens=8192")
    assert run("run", copy / "tiny.toml", "--out", copy / "run", *more) == 2
    said = capsys.readouterr().err
    assert "models.teacher.train.tokens: 4096 -> 8192" in said
    assert "goes on from step-00000008" in said
    assert "models/student/final: its teacher would be remade" in said
    assert contents(copy / "run") == before
    assert run("run", copy / "tiny.toml", "--out", copy / "run", *more, "--remake") == 0
    assert "teacher: goes on from step 8 of 32" in capsys.readouterr().err


def test_a_cosine_or_another_warm_up_starts_anew(run, copy, capsys):
    for wish in ("models.student.train.warmup_fraction=0.4", 'models.student.train.schedule="cosine"',
                 "models.student.train.tokens=1024", "models.student.train.batch_tokens=128"):  # fmt: skip
        assert run("run", copy / "tiny.toml", "--out", copy / "run", "--set", wish) == 2
        said = capsys.readouterr().err
        assert "goes on" not in said
        assert "--remake" in said


def test_batches_that_follow_from_the_tokens_are_named(run, recipe, capsys):
    """Left out, they grow with `tokens`, and then nothing is the same: the value to set is said, and helps."""
    recipe.write_text(recipe.read_text().replace("batch_tokens = 256, ", ""))
    key, out = "models.student.train.batch_tokens", recipe.parent / "run"
    more = ("--set", "models.student.train.tokens=40960")
    assert run("train", recipe, "--model", "control", "--out", out) == 0
    assert run("train", recipe, "--model", "control", "--out", out, *more) == 2
    assert f"with {key.replace('student', 'control')} = 256 it can go on from where it is" in capsys.readouterr().err
    assert run("train", recipe, "--model", "control", "--out", out, *more, "--set", f"{key}=256") == 0
    assert "control: goes on from step 4 of 160" in capsys.readouterr().err
