"""The time left for a whole run: the FLOPs of its steps at the speed that it had so far."""

from __future__ import annotations

import shutil

import pytest

from gemmule.base.progress import Meter
from gemmule.model.config import Gemma2Config
from gemmule.run import outlook
from gemmule.run.outlook import Outlook
from gemmule.run.runner import Family


def flops(width: int) -> float:
    """Of a forward pass over a token, of the recipe's models: by hand."""
    shape = Gemma2Config(280, 2, width, 4, 2, width // 4, 4 * width, 8)
    return shape.flops_per_token(16)


@pytest.fixture
def clock(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(outlook, "running_seconds", lambda: seconds[0])
    return seconds


def test_it_is_said_once_a_step_was_made_and_follows_from_counted_flops(copy, clock, capsys):
    for name in ("student", "control"):
        shutil.rmtree(copy / "run" / "models" / name)
    plan = Family.from_file(copy / "tiny.toml", out=copy / "run").plan
    ahead = Outlook(plan, plan.steps)
    names = [str(step.path.relative_to(plan.out)) for step in ahead.left]
    assert sorted(names) == sorted(
        f"models/{m}/{kind}" for m in ("student", "control") for kind in ("final", "evaluation")
    )
    student, control, *evaluations = ahead.left
    with ahead.making(student):
        clock[0] += 90.0
    with ahead.making(control):
        clock[0] += 10.0
    first, second, _ = capsys.readouterr().err.split("\n")
    assert first == "[1/4] models/student/final"
    tokens = len(plan.validation_tokens.shards)
    of_student = 2048 * (3 * flops(16) + flops(32))  # its live teacher beside it
    left = 2048 * 3 * flops(16) + tokens * (2 * flops(16) + flops(32))  # in one pass beside the teacher
    seconds = round(90 * left / of_student)
    assert second == f"[2/4] models/control/final, about {seconds // 60}:{seconds % 60:02} left for the whole run"
    assert ahead.left == evaluations


def test_in_the_first_step_the_figure_follows_from_its_own_speed(copy, monkeypatch, capsys):
    shutil.rmtree(copy / "run" / "models" / "control")
    plan = Family.from_file(copy / "tiny.toml", out=copy / "run").plan
    ahead = Outlook(plan, plan.steps)
    seconds = iter([0.0, 30.0])
    with ahead.making(ahead.left[0]):
        monkeypatch.setattr("gemmule.base.progress.running_seconds", lambda: next(seconds))
        monkeypatch.setattr("gemmule.base.progress.PLAIN_EVERY", 0.0)
        Meter("control", 8).update(4)  # a minute in all
    later = len(plan.validation_tokens.shards) * (flops(16) + flops(32))
    whole = round(30 + 60 * later / (2048 * 3 * flops(16)))
    assert f"0:30 left, {whole // 60}:{whole % 60:02} for the whole run" in capsys.readouterr().err


def test_nothing_is_said_where_nothing_is_known(recipe, capsys):
    plan = Family.from_file(recipe, out=recipe.parent / "run").plan
    ahead = Outlook(plan, plan.steps)
    with ahead.making(ahead.left[0]):
        pass
    with ahead.making(ahead.left[0]):
        pass
    assert capsys.readouterr().err == f"[1/{ahead.count}] documents\n[2/{ahead.count}] tokenizer\n"
