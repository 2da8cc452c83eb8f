"""Trackers, through a module that stands in for them: what they are told, that going on is the same run, failures."""

from __future__ import annotations

import sys
import types

import pytest

from gemmule.base.errors import RequestError
from gemmule.train.metrics import MetricsLog
from gemmule.train.tracking import start_tracking


class Recorded:
    """What a tracker's three calls were given; `fails` names the one that raises."""

    def __init__(self):
        self.inits, self.logged, self.finished, self.fails = [], [], 0, ""

    def init(self, **wishes):
        self._fail("init")
        self.inits.append(wishes)
        return self

    def log(self, values, step):
        self._fail("log")
        self.logged.append((step, values))

    def finish(self):
        self._fail("finish")
        self.finished += 1

    def _fail(self, call):
        if self.fails == call:
            raise ConnectionError("no route to host\nand more")


@pytest.fixture(params=["wandb", "trackio"])
def library(request, monkeypatch):
    recorded = Recorded()
    module = types.ModuleType(request.param)
    module.init = recorded.init
    monkeypatch.setitem(sys.modules, request.param, module)
    return request.param, recorded


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "myrun" / "models" / "student"


def log_two(name, folder):
    log = MetricsLog(folder, 0, start_tracking(name, folder, {"seed": 3}))
    log.write({"step": 1, "tokens": 64, "loss": 2.5})
    log.write({"step": 1, "tokens": 64, "validation_loss": 2.25})
    log.close()


def test_a_tracker_is_told_what_metrics_are(library, folder):
    name, recorded = library
    log_two(name, folder)
    [wishes] = recorded.inits
    assert wishes["project"] == "myrun"
    assert wishes["name"].startswith("student-")
    assert wishes["config"] == {"seed": 3}
    assert recorded.logged == [(1, {"tokens": 64, "loss": 2.5}), (1, {"tokens": 64, "validation_loss": 2.25})]
    assert recorded.finished == 1


@pytest.mark.parametrize("run", ["myrun", "seeds/myrun"])
def test_a_further_training_is_in_the_project_of_its_run(library, tmp_path, run):
    name, recorded = library
    out = tmp_path / run
    out.mkdir(parents=True)
    (out / ".fingerprints.json").touch()
    log_two(name, out / "models" / "student")
    log_two(name, out / "seeds" / "4" / "models" / "student")
    assert [wishes["project"] for wishes in recorded.inits] == ["myrun", "myrun"]


def test_going_on_is_the_same_tracked_run_wherever_the_folder_lies(library, folder, tmp_path):
    name, recorded = library
    log_two(name, folder)
    (tmp_path / "myrun").rename(tmp_path / "copied")
    log_two(name, tmp_path / "copied" / "models" / "student")
    log_two(name, tmp_path / "myrun" / "models" / "student")  # another run, as no folder is there any more
    first, second, third = ((wishes["name"], wishes.get("id"), wishes["resume"]) for wishes in recorded.inits)
    assert first == second != third
    assert first[2] == "allow"
    assert (name == "wandb") == (first[1] is not None)


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_said_once_and_training_goes_on(library, folder, call, capsys):
    name, recorded = library
    recorded.fails = call
    log_two(name, folder)
    assert capsys.readouterr().err == f"{name}: no route to host; training continues without it\n"
    assert (folder / "metrics.jsonl").read_text().count("\n") == 2


def test_without_a_wish_nothing_is_tracked(library, folder):
    log_two("none", folder)
    assert library[1].inits == []
    assert not (folder / "tracked-as").exists()


def test_a_library_that_is_missing_is_named_with_its_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RequestError, match=r'machine.track = "wandb": .* pip install "gemmule\[wandb\]"'):
        start_tracking("wandb", folder, {})
