"""When checkpoints are saved: what a kill costs at any speed of step, what saving costs, and which folders are ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_job import same, weights_of

from gemmule.recipe import Train
from gemmule.train import checkpoint, loop, pace
from gemmule.train.checkpoint import Checkpoints
from gemmule.train.loop import Trainer
from gemmule.train.pace import Pace

MINUTES = 5


class Clock:
    """Seconds that pass only where a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (loop, checkpoint, pace):
        monkeypatch.setattr(module, "running_seconds", clock)
    return clock


def train(**changes):
    return Train(tokens=1, learning_rate=1.0, **changes)


def simulated(clock, step_seconds, *, waiting=0.0, writing=0.0, processor=0.0, hours=3.0, **changes):
    """The longest time that a kill would cost, and the share that checkpoints take of training's time.

    A checkpoint is there once it is written, and training goes on meanwhile.
    """
    pace, written_at, step = Pace("m", train(**changes)), None, 0
    copied = saved = lost = waited = 0.0
    while clock.now < 3600 * hours:
        clock.now += step_seconds
        step += 1
        if written_at is not None and clock.now >= written_at:
            pace.written(writing, processor)
            saved, written_at = copied, None
        lost = max(lost, clock.now - saved)
        if written_at is None and pace.is_due(step, step_seconds):
            began = clock.now
            clock.now += waiting
            pace.saved(began)
            copied, written_at, waited = clock.now, clock.now + writing, waited + waiting
    return lost, waited / clock.now


@pytest.mark.parametrize("step_seconds", [0.01, 0.3, 1.0, 7.0, 45.0, 100.0, 149.0, 151.0, 240.0, 299.0])
def test_a_kill_costs_at_most_five_minutes_at_any_speed_of_step(clock, step_seconds):
    lost, _ = simulated(clock, step_seconds, hours=0.2 if step_seconds < 1 else 3)
    assert lost <= 60 * MINUTES
    assert step_seconds < 1 or lost > 60 * MINUTES / 4  # and no checkpoint comes much too early


def test_a_step_of_more_than_that_is_saved_each_time(clock):
    assert simulated(clock, 400.0)[0] == 400.0


def test_the_time_of_writing_is_allowed_for(clock):
    """A write of 40 s begins so early that even a kill just before its end costs no more."""
    assert simulated(clock, 2.0, writing=40.0)[0] <= 60 * MINUTES + 2 + 40  # the first one's time is not known yet
    clock.now = 0.0
    pace = Pace("m", train())
    pace.saved(0.0)
    pace.written(40.0, 0.0)
    clock.now = 257.0
    assert not pace.is_due(1, 2.0)
    clock.now = 258.0
    assert pace.is_due(1, 2.0)


def test_checkpoints_take_at_most_three_percent_of_the_time_and_it_is_said(clock, capsys):
    """Of 20 s each, one every eleven minutes; of 0.5 s at fast steps, one every 5 minutes and none at 200 steps."""
    lost, share = simulated(clock, 1.0, waiting=20.0)
    assert share <= 0.03
    assert lost < 60 * 23  # the second: the first one was not paid for by anything before it
    said = capsys.readouterr().err
    assert said.count("m: a checkpoint takes 20 s of training's time: saving one every 11:07") == 1
    clock.now = 0.0
    lost, share = simulated(clock, 0.01, waiting=0.5, hours=0.2)
    assert lost <= 60 * MINUTES
    assert share <= 0.03
    assert not capsys.readouterr().err


@pytest.mark.parametrize("shift", [0, 1, 7, 100, 199])
def test_saves_by_time_never_crowd_out_those_by_steps(clock, shift):
    """Every 200th step of 2 s, though one by time may have been a moment before, and may still be written."""
    pace = Pace("m", train())
    pace.saved(0.0)
    for step in range(1, 2001):
        clock.now += 2.0
        due = pace.is_due(step, 2.0, idle=(step + shift) % 150 > 10)
        assert due or step % 200
        if due or (step + shift) % 100 == 0:
            pace.saved(clock.now - 0.4)
            pace.written(10.0, 1.0)
        if not due:
            assert clock.now - pace.since < 60 * MINUTES + 22 + 2


def test_what_a_thread_writes_costs_its_part_of_the_processors(clock, monkeypatch):
    monkeypatch.setattr(pace.os, "cpu_count", lambda: 4)
    mine = Pace("m", train())
    clock.now = 1.0
    mine.saved(0.5)
    mine.written(60.0, 10.0)
    assert mine.cost == 0.5 + 10.0 / 4


def test_minutes_and_steps_are_the_recipes(clock):
    assert simulated(clock, 3.0, checkpoint_minutes=1)[0] <= 60
    clock.now = 0.0
    assert simulated(clock, 10.0, checkpoint_every=3)[0] == 30
    assert all(pace.is_asked_for(step, 99, train(checkpoint_every=3)) for step in (3, 6, 99))
    assert not any(pace.is_asked_for(step, 99, train()) for step in (1, 3, 98))
    assert pace.is_asked_for(7, 99, train(keep_every=7))


def test_training_saves_by_time_between_the_steps_that_are_asked_for(job, clock, monkeypatch):
    """Twelve steps of 100 s: saved after 2, 4, ... for the next step would pass the five minutes."""
    saved, advance, save = [], Trainer.advance, Checkpoints.save

    def slow(trainer):
        clock.now += 100
        return advance(trainer)

    def noted(self, model, optimizer, state):
        saved.append(state.step)
        save(self, model, optimizer, state)
        self.finish()

    monkeypatch.setattr(Trainer, "advance", slow)
    monkeypatch.setattr(Checkpoints, "save", noted)
    by_time = job.train.model_copy(update={"checkpoint_every": None})
    first = weights_of(loop.train(replace(job, train=by_time)))
    assert saved == [2, 4, 6, 8, 10, 12]
    saved.clear()
    never = job.train.model_copy(update={"checkpoint_every": None, "checkpoint_minutes": 1e6})
    assert same(first, weights_of(loop.train(replace(job, folder=job.folder.with_name("b"), train=never))))
    assert saved == [12]


def test_the_newest_by_steps_stays_beside_those_by_time(job, clock, monkeypatch):
    advance = Trainer.advance

    def slow(trainer):
        clock.now += 301
        return advance(trainer)

    monkeypatch.setattr(Trainer, "advance", slow)
    monkeypatch.setattr(
        Checkpoints, "is_due", lambda self, step, seconds: self.finish() or self.pace.is_due(step, seconds)
    )
    loop.train(replace(job, train=job.train.model_copy(update={"checkpoint_every": 5})))
    assert [pace.step_of(path) for path in pace.found(job.folder / "checkpoints")] == [10, 11, 12]


STRANGERS = [
    "step-00000100.bak",
    "step-best",
    "step-7",
    "step-000000100",
    "step-00000100 (copy)",
    ".step-mine",
    "stepping",
]


def test_folders_of_strangers_are_neither_taken_for_checkpoints_nor_touched(job, tmp_path):
    whole = weights_of(loop.train(replace(job, folder=tmp_path / "whole")))
    folder = job.folder / "checkpoints"
    for name in STRANGERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "mine").write_text("mine")
    (folder / "step-00000099").write_text("a file")
    (tmp_path / "elsewhere").mkdir()
    (folder / "step-00000098").symlink_to(tmp_path / "elsewhere")
    (folder / ".step-00000003.tmp").mkdir()  # of a process that was killed
    (folder / ".step-00000002.old").mkdir()
    policy = job.train.model_copy(update={"checkpoint_every": 1, "keep_every": 5, "keep_best": True})
    assert same(whole, weights_of(loop.train(replace(job, train=policy))))
    ours = [path.name for path in pace.found(folder)]
    assert {"step-00000005", "step-00000010", "step-00000012"} <= set(ours)
    assert len(ours) <= 5
    others = {path.name for path in folder.iterdir()} - set(ours)
    assert others == {*STRANGERS, "step-00000099", "step-00000098"}
    assert all((folder / name / "mine").read_text() == "mine" for name in STRANGERS)


def test_more_than_eight_digits_are_a_step_too(tmp_path):
    for name in ("step-100000000", "step-99999999", "step-00000001", "step-0100000000"):
        (tmp_path / name).mkdir()
    assert [pace.step_of(path) for path in pace.found(tmp_path)] == [1, 99999999, 100000000]
    assert pace.path_of(tmp_path, 10**8).name == "step-100000000"
