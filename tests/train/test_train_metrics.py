"""metrics.jsonl when training goes on: what came after the checkpoint goes, however the file ended."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from tensorboard.summary.writer.record_writer import RecordWriter

from gemmule.base.errors import WorkError
from gemmule.recipe import Distill
from gemmule.train import metrics
from gemmule.train.metrics import MetricsLog


def lines(count):
    return "".join(json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in range(1, count + 1))


@pytest.mark.parametrize("tail", ["", '{"step": 11, "lo', "\x00\x00\x00", '{"step": 11, "loss": 1}', "\x00\n\x00\n"])
@pytest.mark.parametrize("step", [0, 1, 7, 10, 99])
def test_records_after_the_step_are_dropped_and_the_next_one_follows(tmp_path, step, tail):
    (tmp_path / "metrics.jsonl").write_text(lines(10) + tail)
    log = MetricsLog(tmp_path, step)
    log.write({"step": step + 1, "loss": 5.0})
    log.close()
    kept = [*range(1, min(step, 10) + 1), step + 1]
    assert [record["step"] for record in metrics.read(tmp_path)] == kept
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == len(kept)


@pytest.mark.parametrize("content", [None, "", "nothing\n"])
def test_a_log_without_records_begins(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    log = MetricsLog(tmp_path, 3)
    log.write({"step": 4})
    log.close()
    assert metrics.read(tmp_path) == [{"step": 4}]


def test_going_on_takes_no_longer_the_longer_the_run_was(tmp_path, monkeypatch):
    """A thousand records before the checkpoint, ten after: eleven are looked at."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1010))
    read = []
    real = metrics._step_of
    monkeypatch.setattr(metrics, "_step_of", lambda line: read.append(line) or real(line))
    metrics._drop_after(1000, path)
    assert len(read) == 11
    assert path.read_text() == lines(1000)


@pytest.mark.parametrize(
    ("distill", "taught", "name", "tag"),
    [
        (Distill(), False, "next-token loss", "loss/next_token_loss"),
        (Distill(), True, "forward KL", "loss/forward_kl"),
        (Distill(loss="reverse_kl"), True, "reverse KL", "loss/reverse_kl"),
        (
            Distill(next_token_weight=[0.5, 0.0]),
            True,
            "forward KL + next-token loss",
            "loss/forward_kl_next_token_loss",
        ),
        (Distill(loss="alm"), False, "next-token loss", "loss/next_token_loss"),
    ],
)
def test_a_loss_is_named_for_what_it_is(tmp_path, distill, taught, name, tag):
    told = []
    tracker = SimpleNamespace(log=told.append, close=lambda: None)
    assert metrics.objective(distill, taught) == name
    log = MetricsLog(tmp_path, 0, tracker, name)
    log.write({"step": 1, "tokens": 64, "loss": 2.5, "seconds": 1.0})
    log.write({"step": 1, "tokens": 64, "validation_loss": 2.25})
    log.close()
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert shown.Tags()["scalars"] == [tag, "validation_loss/next_token_loss"]
    assert [event.value for event in shown.Scalars(tag)] == [2.5]
    assert told[0] == {"step": 1, "tokens": 64, tag: 2.5, "seconds": 1.0}
    assert metrics.read(tmp_path)[0]["loss"] == 2.5  # the file's key is one for all


def test_a_full_disk_is_told_by_path_and_reason(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.file.close()
    log.file = open("/dev/full", "w")  # noqa: SIM115
    with pytest.raises(WorkError, match=r"metrics\.jsonl: can't be written: No space left on device"):
        log.write({"step": 1})


def test_what_is_not_finite_is_null(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.write({"step": 1, "loss": float("nan"), "gradient_norm": float("inf")})
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": null, "gradient_norm": null}\n'


def test_a_disk_that_is_full_for_tensorboard_is_told_once_and_without_a_traceback(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(WorkError, match=r"tensorboard: can't be written: No space left on device"):
        MetricsLog(tmp_path, 0)
    error = OSError(28, "No space left on device")
    for thread, said in ((_AsyncWriterThread(None, None, 1), False), (threading.Thread(), True)):
        threading.excepthook(threading.ExceptHookArgs((OSError, error, None, thread)))
        assert ("No space left" in capsys.readouterr().err) is said
