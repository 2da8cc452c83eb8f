"""Targets taught by several processes at once, killed and started again; and what a longer text takes over."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import strike

from gemmule.base import artifact
from gemmule.teach.targets import parts

STRUCK = f"""
import sys
sys.path.insert(0, {str(Path(strike.__file__).parent)!r})
import strike
from gemmule.teach.targets import parts
parts.SEGMENT = 1
strike.main(sys.argv[1], "gemmule.teach.targets.parts:Parts._write", int(sys.argv[2]), sys.argv[3:])
"""


@pytest.fixture
def short_segments(monkeypatch):
    monkeypatch.setattr(parts, "SEGMENT", 1)  # of 256 tokens


@pytest.fixture
def taught(tmp_path, finished, recipe, run, contents, short_segments):
    """The run folder without its targets, and these, made by one process."""
    out = tmp_path / "run"
    shutil.copytree(finished / "run", out)
    for made in ("targets", "models/cached", "models/student", "models/control"):
        shutil.rmtree(out / made)
    assert run("teach", recipe, "--out", out) == 0
    whole = contents(out / "targets" / "teacher")
    shutil.rmtree(out / "targets")
    return out, whole


def worker(recipe, out, share, struck_by, after):
    """A worker that sends itself a signal after so many segments."""
    command = [sys.executable, "-c", STRUCK, struck_by, str(after), "teach", recipe, "--out", out, "--worker", share]
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)


def test_workers_at_once_one_of_them_killed_write_what_one_process_does(taught, recipe, run, contents, capsys):
    out, whole = taught
    first, second = worker(recipe, out, "1/2", "SIGSTOP", 1), worker(recipe, out, "2/2", "SIGKILL", 2)
    folder = out / "targets" / ".teacher.parts"
    strike.wait_until_stopped(first)  # still at work, however long the others take
    assert second.wait(100) == -signal.SIGKILL
    assert (folder / "segment-00000003").exists()  # its second
    assert run("teach", recipe, "--out", out) == 2
    assert re.search(r"in use by process \d+", capsys.readouterr().err)
    first.send_signal(signal.SIGCONT)
    said = first.communicate(timeout=60)[1]
    assert first.returncode == 0
    assert "worker 1/2's segments are done; " in said
    assert not (out / "targets" / "teacher").exists()
    assert run("teach", recipe, "--out", out, "--worker", "2/2") == 0
    assert contents(out / "targets" / "teacher") == whole
    assert not folder.exists()
    artifact.verify(artifact.read(out / "targets" / "teacher"))
    assert run("teach", recipe, "--out", out, "--worker", "1/2") == 0
    assert "made" in capsys.readouterr().err


def test_a_worker_makes_what_comes_before_and_the_same_command_goes_on(tmp_path, recipe, run, contents, taught):
    out = tmp_path / "fresh"
    assert run("teach", recipe, "--out", out, "--worker", "2/3") == 0
    assert (out / "tokens" / "train").exists()
    assert (out / "targets" / ".teacher.parts" / "segment-00000001").exists()
    assert not (out / "targets" / ".teacher.parts" / "segment-00000000").exists()
    assert run("teach", recipe, "--out", out) == 0  # without --worker: all the rest
    assert contents(out / "targets" / "teacher") == taught[1]


@pytest.mark.parametrize("share", ["0/4", "5/4", "3", "1/0", "-1/2", "a/b"])
def test_a_share_that_is_none_is_refused(recipe, run, capsys, share):
    assert run("teach", recipe, "--worker", share) == 2
    assert f"--worker {share}: should be NUMBER/COUNT" in capsys.readouterr().err


def outside(base: Path, finished: Path) -> Path:
    """A recipe with an outside teacher and its tokenizer, over a folder of its own."""
    teacher = finished / "run" / "models" / "teacher" / "final"
    path = base / "outside.toml"
    path.write_text(
        f"""
name = "outside"
[data]
sources = ["texts"]
sequence_length = 16
validation_fraction = 0.2
[tokenizer]
from = "{teacher}"
[models.teacher]
from = "{teacher}"
[models.student]
architecture = {{ layers = 2, width = 16 }}
learn_from = "teacher"
distill = {{ targets = {{ bytes_per_token = 30 }} }}
train = {{ tokens = 256, batch_tokens = 256 }}
[machine]
device = "cpu"
compile = false
"""
    )
    return path


def test_added_documents_take_over_the_targets_of_the_others(
    tmp_path, text_folder, texts, finished, run, short_segments, capsys
):
    path, out = outside(tmp_path, finished), tmp_path / "run"
    assert run("teach", path, "--out", out) == 0
    before = artifact.read(out / "targets" / "teacher")
    (text_folder / "99.txt").write_text("\n".join(texts[:3]))
    assert run("teach", path, "--out", out) == 2  # it is said first what would be remade
    capsys.readouterr()
    assert run("teach", path, "--out", out, "--remake") == 0
    said = capsys.readouterr().err
    taken = re.search(r"targets of teacher: ([\d.]+)k tokens reused from \S+old/targets/teacher-1", said)
    assert taken
    assert float(taken[1]) > 1
    after = artifact.read(out / "targets" / "teacher")
    assert (after / "order.bin").read_bytes() == (
        before.path.parent.parent / "old/targets/teacher-1/order.bin"
    ).read_bytes()
    (text_folder / "00.txt").write_text("another beginning " * 40)
    assert run("teach", path, "--out", out, "--remake") == 0
    assert re.search(r"targets of teacher: 0 tokens reused", capsys.readouterr().err)


def test_a_budget_of_two_bytes_is_refused_with_what_would_do(taught, recipe, run, capsys):
    out, _ = taught
    wish = "models.cached.distill.targets.bytes_per_token"
    assert run("teach", recipe, "--out", out, "--set", f"{wish}=2") == 2
    least = re.search(r"bytes_per_token = 2: too small; at least (\d+) is needed", capsys.readouterr().err)
    assert least
    assert not (out / "targets" / "teacher").exists()
    assert run("teach", recipe, "--out", out, "--set", f"{wish}={least[1]}") == 0
