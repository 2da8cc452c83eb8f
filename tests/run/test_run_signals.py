"""Signals at any step: what was made is kept, status.json and the report say the truth, the same command resumes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import strike

from gemmule import tokenize
from gemmule.base import artifact, locks, signals
from gemmule.evaluate import figures
from gemmule.model import weights
from gemmule.refine import documents
from gemmule.run import status
from gemmule.tokenize import shards
from gemmule.train import checkpoint, metrics

STATUSES = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated"), signal.SIGHUP: (129, "hung up")}
FINAL = Path("models") / "control" / "final" / "model.safetensors"


@pytest.fixture(autouse=True)
def _default_handlers(monkeypatch):
    """Whatever started the tests may ignore signals, as nohup does."""
    before = {number: signal.getsignal(number) for number in STATUSES}
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    monkeypatch.setattr(signals, "AT_ONCE", 0.0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def struck(monkeypatch, owner, name, *numbers):
    """Makes a function send this process signals, one at each call."""
    function, left = getattr(owner, name), list(numbers)

    def strike(*positional, **named):
        if left:
            os.kill(os.getpid(), left.pop(0))
        return function(*positional, **named)

    monkeypatch.setattr(owner, name, strike)


PLACES = {
    "documents": (documents, "write_documents"),
    "tokenizer": (tokenize, "train"),
    "tokens": (shards, "write_shards"),
    "training": (metrics.MetricsLog, "write"),
    "checkpoint": (checkpoint.Checkpoints, "save"),
    "final": (weights, "save"),
    "evaluation": (figures, "measure"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", STATUSES)
def test_a_signal_in_any_step_ends_it_saved(monkeypatch, run, recipe, capsys, number, place):
    out = recipe.parent / "run"
    arguments = ("evaluate", recipe, "--model", "control", "--out", out)
    with monkeypatch.context() as patch:
        struck(patch, *PLACES[place], number)
        code, word = STATUSES[number]
        assert run(*arguments) == code
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == f"{word}. Resume with: gemmule {' '.join(map(str, arguments))}"
    told = json.loads((out / "status.json").read_text())
    assert (told["state"], told["message"]) == ("resume", None)
    assert told["resume_with"] == f"gemmule run {out / 'recipe.toml'} --out {out}"
    assert not list(out.rglob(".*.tmp"))
    assert not locks.is_held(out)
    if place == "training":
        assert list(out.glob("models/*/checkpoints/step-00000001"))


@pytest.mark.parametrize("place", ["retire", "write_json"])
def test_a_signal_while_old_artifacts_are_moved_leaves_the_recipe_of_the_new_ones(monkeypatch, run, copy, place):
    out = copy / "run"
    change = ("--set", "models.control.train.clip=0.5")
    arguments = ("train", copy / "tiny.toml", "--out", out, "--model", "control", *change)
    with monkeypatch.context() as patch:
        struck(patch, artifact, place, signal.SIGTERM)
        assert run(*arguments, "--remake") == 143
    moved = (out / "old" / "models" / "control-1").exists()
    assert moved == (place == "retire")
    assert ("clip = 0.5" in (out / "recipe.toml").read_text()) == moved
    assert run("train", out / "recipe.toml", "--model", "control") == 0
    settings = artifact.read(out / "models" / "control" / "final").settings
    assert settings["models.control.train.clip"] == (0.5 if moved else 1.0)


@pytest.mark.parametrize("second", STATUSES)
def test_a_second_signal_stops_at_once_and_it_is_said_all_the_same(monkeypatch, run, recipe, second):
    out = recipe.parent / "run"
    with monkeypatch.context() as patch:
        struck(patch, metrics.MetricsLog, "write", signal.SIGTERM)
        struck(patch, checkpoint.Checkpoints, "save", second)  # while the first one saves
        assert run("train", recipe, "--model", "control", "--out", out) == STATUSES[second][0]
    assert status.read(out).state == "resume"


@pytest.mark.parametrize("number", STATUSES)
def test_no_signal_cuts_the_last_word_short(monkeypatch, run, recipe, number):
    out = recipe.parent / "run"
    write = status._write

    def interrupted(out, said):
        if said.state == "resume":
            os.kill(os.getpid(), number)
        write(out, said)

    with monkeypatch.context() as patch:
        struck(patch, documents, "write_documents", signal.SIGTERM)
        patch.setattr(status, "_write", interrupted)
        assert run("refine", recipe, "--out", out) == 143
    assert status.read(out).state == "resume"


@pytest.mark.parametrize("number", STATUSES)
@pytest.mark.parametrize("error", [None, AttributeError("half an import"), OSError(5, "Input/output error")])
def test_a_signal_that_a_library_swallows_is_not_lost(monkeypatch, run, recipe, capsys, number, error):
    """PyTorch takes an exception in its import of numpy for a numpy that is not there."""
    out = recipe.parent / "run"
    written = documents.write_documents

    def swallow(*arguments, **named):
        try:
            os.kill(os.getpid(), number)
        except (SystemExit, KeyboardInterrupt):
            if error is not None:
                raise error from None
        return written(*arguments, **named)

    monkeypatch.setattr(documents, "write_documents", swallow)
    code, word = STATUSES[number]
    assert run("tokenize", recipe, "--out", out) == code
    assert not (out / "tokenizer").exists()
    assert status.read(out).state == "resume"
    assert capsys.readouterr().err.splitlines()[-1].startswith(word)


def signalled(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STATUSES)
def test_a_signal_waits_until_torch_is_imported(number):
    """An exception that enters its import in the wrong place aborts the process."""
    done = []

    def imports():
        with signals.raised(), signals.deferred():
            signalled(number)
            done.append("imported")

    with pytest.raises((SystemExit, KeyboardInterrupt)):
        imports()
    assert done == ["imported"]


def test_a_terminal_that_is_closed_hangs_up_twice_at_once(monkeypatch, run, recipe):
    """Itself and by its shell: the second is no wish to stop without saving."""
    monkeypatch.setattr(signals, "AT_ONCE", 1000.0)
    struck(monkeypatch, metrics.MetricsLog, "write", signal.SIGHUP)
    struck(monkeypatch, checkpoint.Checkpoints, "save", signal.SIGHUP)
    out = recipe.parent / "run"
    assert run("train", recipe, "--model", "control", "--out", out) == 129
    assert (out / "models" / "control" / "checkpoints" / "step-00000001").is_dir()


def test_nohup_goes_on_after_the_terminal_is_closed(monkeypatch, run, recipe):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    struck(monkeypatch, documents, "write_documents", signal.SIGHUP)
    struck(monkeypatch, metrics.MetricsLog, "write", signal.SIGHUP)
    assert run("train", recipe, "--model", "control", "--out", recipe.parent / "run") == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize(("wanted", "code"), [("0", 0), ("75", 75), ("", 143), ("-1", 143), ("1000", 143), ("²", 143)])
def test_a_scheduler_chooses_the_status_of_sigterm(monkeypatch, run, recipe, wanted, code):
    monkeypatch.setenv("GEMMULE_TERM_STATUS", wanted)
    struck(monkeypatch, documents, "write_documents", signal.SIGTERM)
    assert run("refine", recipe, "--out", recipe.parent / "run") == code


def test_a_verb_that_starts_over_names_no_command(monkeypatch, run, finished, tmp_path, capsys):
    """And leaves nothing half-written behind."""
    from gemmule.convert import folder

    struck(monkeypatch, folder.weights, "write", signal.SIGTERM)
    final = finished / "run" / "models" / "control" / "final"
    assert run("export", final, tmp_path / "copy", "--format", "hf") == 143
    assert capsys.readouterr().err == "terminated\n"
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_is_known_to_be_dead(run, finished, recipe, capsys):
    """kill -9: the report says that it stopped, a refused command says that it is to be resumed, and it resumes."""
    out = recipe.parent / "run"
    arguments = ("train", recipe, "--model", "control", "--out", out)
    killed = subprocess.run(strike.command("SIGKILL", strike.METRICS, 4, *arguments), capture_output=True)
    assert killed.returncode == -9
    assert json.loads((out / "status.json").read_text())["state"] == "running"
    assert run("report", out) == 0
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (out / "report.html").read_text()))
    assert "control is not finished: step" in page
    assert "in training" not in page.lower()
    assert "was killed, or the machine stopped. Resume with: gemmule run" in page
    assert run(*arguments, "--set", "data.validation_fraction=0.5") == 2
    told = json.loads((out / "status.json").read_text())
    assert told["state"] == "resume"
    assert "was killed" in told["message"]
    assert f"gemmule run {out / 'recipe.toml'}" in told["resume_with"]
    assert run(*arguments) == 0
    assert json.loads((out / "status.json").read_text())["state"] == "done"
    assert (out / FINAL).read_bytes() == (finished / "run" / FINAL).read_bytes()


def test_a_worker_corrects_what_a_dead_run_said_and_is_stopped_as_any(monkeypatch, run, recipe, capsys):
    out = recipe.parent / "run"
    assert run("tokenize", recipe, "--out", out) == 0
    told = json.loads((out / "status.json").read_text())
    (out / "status.json").write_text(json.dumps(told | {"state": "running"}))
    struck(monkeypatch, checkpoint.Checkpoints, "save", signal.SIGTERM)
    assert run("teach", recipe, "--out", out, "--worker", "1/2") == 143
    assert "Resume with: gemmule teach" in capsys.readouterr().err
    assert json.loads((out / "status.json").read_text())["state"] == "resume"


def test_a_command_that_is_refused_before_its_work_corrects_it_too(monkeypatch, run, recipe):
    out = recipe.parent / "run"
    assert run("refine", recipe, "--out", out) == 0
    told = json.loads((out / "status.json").read_text())
    (out / "status.json").write_text(json.dumps(told | {"state": "running"}))
    assert run("train", recipe, "--out", out, "--set", "machine.device=cuda") == 2
    assert json.loads((out / "status.json").read_text())["state"] == "resume"


def test_a_process_that_has_the_number_of_a_dead_one_changes_nothing(run, recipe):
    """Whether a run goes on is asked of its lock: this test's own number lives."""
    out = recipe.parent / "run"
    assert run("refine", recipe, "--out", out) == 0
    told = json.loads((out / "status.json").read_text())
    assert told["process"] == os.getpid()
    (out / "status.json").write_text(json.dumps(told | {"state": "running"}))
    assert status.read(out).state == "resume"
    with locks.lock(out):
        assert status.read(out).state == "running"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "flying"}', "null"])
def test_a_damaged_status_is_no_obstacle(run, recipe, text):
    out = recipe.parent / "run"
    assert run("refine", recipe, "--out", out) == 0
    (out / "status.json").write_text(text)
    assert status.read(out) is None
    assert run("report", out) == 0
    assert run("refine", recipe, "--out", out) == 0
    assert status.read(out).state == "done"


def test_a_lost_connection_is_no_silent_end(monkeypatch, run, recipe, capsys):
    """The command line's own library ends without a word on EPIPE."""

    def lost(*arguments, **named):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(documents, "write_documents", lost)
    out = recipe.parent / "run"
    assert run("refine", recipe, "--out", out) == 1
    assert f"{out}" in (said := capsys.readouterr().err)
    assert "Broken pipe" in said
    assert status.read(out).state == "failed"


@pytest.mark.parametrize("how", ["<&- >&- 2>&-", "2>&1 | head -c 1"])
def test_a_run_goes_on_where_nobody_reads(recipe, how):
    out = recipe.parent / "run"
    command = f"'{sys.executable}' -m gemmule refine '{recipe}' --out '{out}'"
    subprocess.run(f"{{ {command}; echo $? > '{out}.status'; }} {how}", shell=True, check=True)
    assert Path(f"{out}.status").read_text() == "0\n"
    assert status.read(out).state == "done"
    artifact.verify(artifact.read(out / "documents"))


def test_what_nobody_reads_to_its_end_ends_quietly(finished):
    command = [sys.executable, "-m", "gemmule", "inspect", str(finished / "run"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "gemmule: standard output: No space left on device\n")
