"""The clock that stands while the process is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from gemmule import progress
from gemmule.progress import Meter, RunningClock


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
from gemmule.progress import RunningClock
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
