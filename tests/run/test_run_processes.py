"""A recipe run by torchrun: rank 0 leads, a killed process is started anew, and one message says why it fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import in_processes

from gemmule.base import artifact

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RECIPE = """
name = "tiny"
seed = 1
[data]
sources = ["texts"]
sequence_length = 16
validation_fraction = 0.2
[tokenizer]
vocabulary_size = 280
[models.teacher]
architecture = { layers = 2, width = 32 }
train = { tokens = 2560, batch_tokens = 256, checkpoint_every = 2 }
[models.student]
architecture = { layers = 2, width = 16 }
learn_from = "teacher"
distill = { targets = { bytes_per_token = 30 } }
train = { tokens = 1024, batch_tokens = 256 }
[machine]
device = "cpu"
compile = false
"""


@pytest.fixture
def recipe(text_folder) -> Path:
    path = text_folder.parent / "tiny.toml"
    path.write_text(RECIPE)
    return path


DYING = """
import os, signal, sys
from gemmule import cli
from gemmule.train.loop import Trainer
advance = Trainer.advance
def advance_and_die(self):
    record = advance(self)
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and os.environ["RANK"] == "1" and record["step"] == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return record
Trainer.advance = advance_and_die
cli.main()
"""


def torchrun(*arguments: object, rank_1_dies_after_step: int | None = None) -> subprocess.Popen[str]:
    """The last of the arguments is gemmule's own; a rank that dies does so once, and is started again."""
    program = ["-m", "gemmule"]
    if rank_1_dies_after_step is not None:
        program = ["--no-python", sys.executable, "-c", DYING.format(step=rank_1_dies_after_step)]
    command = [*TORCHRUN, *map(str, arguments[:-1]), *program, *arguments[-1]]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def losses(out: Path, model: str) -> list[float]:
    lines = (out / "models" / model / "metrics.jsonl").read_text().splitlines()
    return [record["loss"] for record in map(json.loads, lines) if "loss" in record]


def test_a_killed_process_costs_nothing_but_time(tmp_path, recipe, run, contents, capfd):
    """kill -9 in the middle of training: the run ends as an undisturbed one of two, and as one process's."""
    whole, killed, alone = tmp_path / "whole", tmp_path / "killed", tmp_path / "alone"
    disturbed = torchrun("--max-restarts", 3, ["train", str(recipe), "--out", str(killed)], rank_1_dies_after_step=5)
    said = disturbed.communicate()[1]
    assert disturbed.returncode == 0, said
    assert "another process is gone" in said
    assert "resuming from step 4 of 10" in said

    assert in_processes(2, lambda: run("train", recipe, "--out", whole)) == [0, 0]
    said = capfd.readouterr().err
    assert said.count("10 steps") == said.count("bytes per token") == 1  # rank 0 alone speaks
    for model in ("teacher", "student"):
        final = contents(whole / "models" / model / "final")
        assert contents(killed / "models" / model / "final")["model.safetensors"] == final["model.safetensors"]
        assert losses(killed, model) == losses(whole, model)
        assert "model.safetensors" in final
        artifact.verify(artifact.read(whole / "models" / model / "final"))
    assert run("train", recipe, "--out", alone) == 0
    assert losses(whole, "teacher") == pytest.approx(losses(alone, "teacher"), rel=1e-5)
    assert losses(whole, "student") == pytest.approx(losses(alone, "student"), rel=1e-3)  # of targets drawn anew
    assert run("train", recipe, "--out", whole) == 0  # one process finds nothing left to do


def test_a_wrong_recipe_is_told_once(recipe, tmp_path):
    refused = torchrun(["run", str(recipe), "--out", str(tmp_path / "run"), "--set", "models.teacher.train.tokenz=5"])
    said = refused.communicate()[1]
    assert refused.returncode != 0
    assert said.count("models.teacher.train.tokenz: unknown key") == 1
    assert re.search(r"local_rank: 0.*\n(.*\n)*.*exitcode  : 2|exitcode: 2", said)
    assert "gemmule/cli.py" not in said  # no traceback of ours
    assert not (tmp_path / "run").exists()
