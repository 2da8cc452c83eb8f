"""The clock that stands while the process is stopped."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from gemmule.base import progress
from gemmule.base.progress import Meter, RunningClock, human


def test_time_in_which_nobody_could_read_the_clock_does_not_count(monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(RunningClock, "_beat", lambda self: None)
    clock = RunningClock()
    assert clock() == 0
    for passed, shown in [(1.0, 1.0), (0.25, 1.25), (4.5, 5.75), (3600.0, 6.75), (1.0, 7.75)]:
        now += passed
        assert clock() == shown


STOPPED = """
import time
from gemmule.base.progress import RunningClock
RunningClock.BEAT, RunningClock.STOPPED = 0.1, 0.5
clock = RunningClock()
started = time.monotonic()
clock()
print("go", flush=True)
input()
print(clock(), time.monotonic() - started)
"""


def test_a_stopped_process_goes_on_where_its_clock_stood():
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "go\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(1.5)  # it stands for at least so long, of which a beat may be seen
    os.kill(process.pid, signal.SIGCONT)
    running, passed = map(float, process.communicate("on\n")[0].split())
    assert running <= passed - 1.4


def test_the_speed_is_that_of_the_time_that_ran(monkeypatch):
    seconds = iter([0.0, 2.0, 4.0])
    monkeypatch.setattr(progress, "running_seconds", lambda: next(seconds))
    meter = Meter("m", 1000)
    meter.update(100)
    assert meter.speed == 50
    meter.update(300)
    assert meter.speed == 75


def test_the_way_may_be_counted_in_steps_and_the_speed_in_tokens(monkeypatch, capsys):
    """Ten steps, of which some learn nothing: at the last one all is done, whatever was learned."""
    seconds = iter([0.0, 2.0, 5.0])
    monkeypatch.setattr(progress, "running_seconds", lambda: next(seconds))
    meter = Meter("m", 10, done=5, counted=1000)
    meter.update(7, "forward KL 0.5", 1100)
    assert meter.speed == 50
    meter.update(10, "forward KL 0.4", 1100)
    assert capsys.readouterr().err == "m: 100%  forward KL 0.4  20 tokens/s  0:00 left\n"


def test_the_time_left_is_also_that_of_the_whole_run(monkeypatch, capsys):
    """A quarter of this took 5 s: 15 s are left of it, and of what follows, which is three times as much, 60 s more."""
    seconds = iter([0.0, 5.0])
    monkeypatch.setattr(progress, "running_seconds", lambda: next(seconds))
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    with progress.followed_by(lambda seconds: 3 * seconds):
        Meter("m", 100).update(25)
    assert capsys.readouterr().err == "m: 25%  5 tokens/s  0:15 left, 1:15 for the whole run\n"


def test_a_live_line_stays_when_it_is_done(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=shown, force_terminal=True, width=120))
    with Meter("m", 100) as meter:
        meter.update(100, "forward KL 0.4")
    last = shown.getvalue()[shown.getvalue().rindex("forward KL 0.4") :]
    assert "\x1b[2K" not in last  # which wipes the line


def test_a_narrow_terminal_shows_what_and_how_far_and_how_long(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=shown, force_terminal=True, width=50))
    with Meter("student", 100) as meter:
        meter.update(50, "forward KL 0.444  validation next-token loss 4.321")
    last = shown.getvalue()[shown.getvalue().rindex("student") :]
    assert re.match(r"student: 50%  \d:\d\d left  forward KL 0\.444", last)
    assert "…" in last


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (0.25, "0.25"), (999, "999"), (999.6, "1k"), (1234, "1.23k"), (999_499, "999k"), (999_500, "1M"),
     (999_950_000, "1B"), (1.5e12, "1.5T"), (1.23456e15, "1,235T"), (-2500, "-2.5k")],
)  # fmt: skip
def test_numbers_have_three_digits_and_never_an_exponent(number, shown):
    assert human(number) == shown


@pytest.mark.parametrize(("a_step", "lines"), [(0.01, 0), (1.0, 1)])
def test_short_work_shows_nothing_and_long_work_how_far_it_is(monkeypatch, capsys, a_step, lines):
    now = 0.0
    monkeypatch.setattr(progress, "running_seconds", lambda: now)
    monkeypatch.setattr(progress, "console", Console(file=io.StringIO()))
    with progress.PatientMeter("reading text", 100) as meter:
        for done in range(10, 101, 10):
            now += a_step
            meter.update(done)
        meter.update(100)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == lines
    assert all(line.startswith("reading text: 100%  10 bytes/s") for line in said)
