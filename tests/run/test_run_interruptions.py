"""Runs that are interrupted, and two at a time in one folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import strike

from gemmule.base import locks


def test_ctrl_c_twice_and_the_same_command_finishes_the_rest(run, finished, recipe):
    """Two interruptions while the teacher trains; the weights are those of a run that was never disturbed."""
    out = recipe.parent / "run"
    train = ("train", recipe, "--model", "student", "--out", out)
    command = strike.command("SIGINT", strike.METRICS, 2, *train)
    for attempt in range(2):
        process = subprocess.run(command, capture_output=True, text=True)
        said = process.stderr
        assert process.returncode == 130, said
        assert f"Resume with: gemmule {' '.join(map(str, train))}" in said
        assert not (out / "models" / "teacher" / "final").exists()
        assert attempt == 0 or "resuming from step" in said
    assert run(*train) == 0
    for model in ("teacher", "student"):
        path = Path("models") / model / "final" / "model.safetensors"
        assert (out / path).read_bytes() == (finished / "run" / path).read_bytes()


def test_a_second_run_in_the_same_folder_is_refused(run, finished, capsys):
    with locks.lock(finished / "run"):
        assert run("run", finished / "tiny.toml", "--out", finished / "run") == 2
    assert f"process {os.getpid()}" in capsys.readouterr().err
