"""A disk that is full while a checkpoint is written, and SIGTERM: what is said, what stays, and how it goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import strike

from gemmule.base import artifact

FINAL = Path("models") / "teacher" / "final" / "model.safetensors"
FREE = 64 * 1024  # bytes that stay free: for a line of metrics, but for no checkpoint


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MB of its own. Only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def train(recipe: Path, out: Path) -> list[object]:
    """Arguments that train the teacher."""
    return ["train", recipe, "--out", out, "--model", "teacher", "--set", "models.teacher.train.checkpoint_every=4"]


def test_a_full_disk_stops_the_run_and_the_last_good_checkpoint_goes_on(run, finished, recipe, small_disk):
    """metaseq#53: a checkpoint cut short by a full disk must not be gone on from."""
    out = small_disk / "run"
    first = out / "models" / "teacher" / "checkpoints" / "step-00000004"
    place = "gemmule.train.checkpoint:Checkpoints._write"
    command = strike.command("SIGSTOP", place, 1, *train(recipe, out))
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    strike.wait_until_stopped(process)
    assert first.exists()
    with (small_disk / "filler").open("wb") as filler:
        filler.write(bytes(max(0, shutil.disk_usage(small_disk).free - FREE)))
    process.send_signal(signal.SIGCONT)
    said = process.communicate()[1]
    assert process.returncode == 1, said
    assert str(first.parent) in said.splitlines()[-1]
    assert "No space left" in said.splitlines()[-1]
    assert "Traceback" not in said
    kept = sorted(first.parent.glob("step-*"))
    assert kept
    for path in kept:
        artifact.verify(artifact.read(path))
    assert json.loads((out / "status.json").read_text())["state"] == "failed"  # there is room for that
    (small_disk / "filler").unlink()
    assert run(*train(recipe, out)) == 0
    assert (out / FINAL).read_bytes() == (finished / "run" / FINAL).read_bytes()


@pytest.mark.parametrize(
    ("size", "what"),
    [
        ("8k", "run/.fingerprints.json"),
        ("16k", "run/documents"),
        ("36k", "run/tokenizer"),
        ("56k", "run/tokens/train"),
        ("112k", "run/models/control/metrics.jsonl"),
        ("200k", "run/models/control/checkpoints"),
    ],
)
def test_a_disk_may_be_full_at_any_step(run, recipe, finished, tmp_path, capsys, size, what):
    """It is named, status.json says it, nothing half-written stays, and with more room the same command finishes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    arguments = (
        "train",
        recipe,
        "--out",
        disk / "run",
        "--model",
        "control",
        "--set",
        "models.student.train.checkpoint_every=2",
        "--force",  # the estimate would refuse such a disk
    )
    try:
        assert run(*arguments) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"gemmule: {disk}/{what}") or f"/.{Path(what).name}.tmp" in said
        assert "No space left on device" in said
        assert json.loads((disk / "run" / "status.json").read_text())["state"] == "failed"
        assert not list(disk.rglob(".*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        if what.startswith("run/models"):
            assert run(*arguments) == 0
            file = "run/models/control/final/model.safetensors"
            assert (disk / file).read_bytes() == (finished / file).read_bytes()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_sigterm_saves_and_the_recipe_in_the_run_folder_resumes(run, finished, recipe):
    out = recipe.parent / "run"
    command = strike.command("SIGTERM", strike.METRICS, 1, *train(recipe, out))
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = process.communicate()[1]
    assert process.returncode == 143, said
    assert f"Resume with: gemmule train {recipe} --out {out}" in said
    status = json.loads((out / "status.json").read_text())
    assert status["state"] == "resume"
    assert status["process"] == process.pid
    assert status["resume_with"] == f"gemmule run {out / 'recipe.toml'} --out {out}"
    assert run(*train(out / "recipe.toml", out)) == 0
    assert json.loads((out / "status.json").read_text())["state"] == "done"
    assert (out / FINAL).read_bytes() == (finished / "run" / FINAL).read_bytes()
