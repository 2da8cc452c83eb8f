"""What is done when losses or gradients are not finite, and when a loss jumps."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_job import SMALL, same, weights_of

from gemmule.base.errors import RequestError, WorkError
from gemmule.model import weights
from gemmule.model.transformer import Gemma2
from gemmule.train import checkpoint, loop, metrics, pace
from gemmule.train.checkpoint import Checkpoints
from gemmule.train.guards import WARMED_UP, LossHistory
from gemmule.train.loop import Trainer
from gemmule.train.objective import accumulate
from gemmule.train.optimizer import Optimizer
from gemmule.train.schedule import learning_rate

RECOVER = Trainer.recover


@pytest.fixture
def spoil(job, monkeypatch):
    """Makes the gradients of some steps' data infinite, whenever it is read."""

    def spoil(*steps):
        bad = {tuple(job.windows.batch(step, job.windows_per_batch).starts) for step in steps}

        def spoiled(model, batch, *rest, **more):
            loss = accumulate(model, batch, *rest, **more)
            if tuple(batch.starts) in bad:
                next(model.parameters()).grad[0, 0] = math.inf
            return loss

        monkeypatch.setattr(loop, "accumulate", spoiled)

    return spoil


def trained_on(job, steps):
    """The weights after exactly these steps, by a loop of this test's own."""
    model = Gemma2(SMALL).initialise(0).train()
    optimizer = Optimizer(model, job.train)
    for step in steps:
        optimizer.zero_grad()
        batch = job.windows.batch(step, job.windows_per_batch)
        accumulate(model, batch, lambda part: torch.from_numpy(part.targets), windows_per_micro_batch=100)
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.train.clip)
        optimizer.step(learning_rate(step, job.steps, job.train))
    return weights_of(model)


def test_an_update_that_is_not_finite_is_left_out_and_counted(job, spoil):
    spoil(5)
    trained = weights_of(loop.train(job))
    assert same(trained, trained_on(job, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]))
    record = next(record for record in metrics.read(job.folder) if "left_out" in record)
    assert record["step"] == 6
    assert "inf" in record["left_out"]
    assert record["documents"] == job.windows.documents_of(job.windows.batch(5, job.windows_per_batch))
    assert checkpoint.read_state(checkpoint.found(job.folder / "checkpoints")[-1]).updates == 11


def test_after_several_training_goes_back_and_passes_over_their_data(job, spoil, capsys):
    spoil(5, 6, 7)
    trained = weights_of(loop.train(job))
    assert same(trained, trained_on(job, [0, 1, 2, 3, 8, 9, 10, 11]))
    passed = [record["step"] for record in metrics.read(job.folder) if "passed_over" in record]
    assert passed == [5, 6, 7, 8]
    assert "back to step 4; skipping the data from there to step 8" in capsys.readouterr().err


def test_checkpoints_by_time_and_of_interruptions_are_not_gone_back_to(job, spoil, tmp_path, monkeypatch):
    """When training is saved must change no weight: of trouble at step 8, the way back is to step 4, not to step 5."""
    spoil(5, 6, 7)
    whole = weights_of(loop.train(job))
    monkeypatch.setattr(Checkpoints, "is_due", lambda *_: True)
    often = replace(job, folder=tmp_path / "often")
    assert same(whole, weights_of(loop.train(often)))
    assert [record["step"] for record in metrics.read(often.folder) if "passed_over" in record] == [5, 6, 7, 8]
    kept = [pace.step_of(path) for path in pace.found(often.folder / "checkpoints")]
    assert kept == [11, 12]


def test_what_came_after_the_checkpoint_that_is_gone_back_to_is_dropped(job, spoil, monkeypatch):
    """Else a kill right after going back would go on from there."""
    spoil(5, 6, 7)
    monkeypatch.setattr(Checkpoints, "is_due", lambda *_: True)
    monkeypatch.setattr(Trainer, "recover", lambda trainer, trouble: RECOVER(trainer, trouble) and killed())

    def killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(job)
    assert [pace.step_of(path) for path in pace.found(job.folder / "checkpoints")] == [4]


@pytest.mark.parametrize("stopped_at", [6, 9])
def test_an_interruption_in_the_middle_of_trouble_changes_nothing(job, spoil, tmp_path, monkeypatch, stopped_at):
    spoil(5, 6, 7)
    whole = weights_of(loop.train(job))
    halted = replace(job, folder=tmp_path / "halted")
    advance = Trainer.advance

    def killed(trainer):
        if trainer.state.step == stopped_at:
            raise KeyboardInterrupt
        return advance(trainer)

    monkeypatch.setattr(Trainer, "advance", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.train(halted)
    monkeypatch.setattr(Trainer, "advance", advance)
    assert same(whole, weights_of(loop.train(halted)))
    mine, theirs = metrics.read(halted.folder), metrics.read(job.folder)
    for record in mine + theirs:
        record.pop("seconds", None), record.pop("tokens_per_second", None)
    assert mine == theirs


def test_it_stops_before_the_update_when_passing_over_does_not_help(job):
    """torchtitan#916: a gradient that overflows. No checkpoint with a value that is not finite is ever written."""
    job = replace(job, train=job.train.model_copy(update={"learning_rate": 1e30, "checkpoint_every": 1}))
    with pytest.raises(WorkError, match=r"m: step \d+: the loss is .*models\.m\.train\.learning_rate"):
        loop.train(job)
    for path in checkpoint.found(job.folder / "checkpoints"):
        assert all(tensor.isfinite().all() for tensor in load_file(path / "model.safetensors").values())
    report = json.loads(next(job.folder.glob("stopped-at-*.json")).read_text())
    assert len(report["windows"]) == job.windows_per_batch
    batch = job.windows.batch(report["step"] - 1, job.windows_per_batch)
    assert [window["position"] for window in report["windows"]] == batch.starts.tolist()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"learning_rate": 1e10}, "learning_rate"),
        ({"learning_rate": 1e300}, "learning_rate"),
        ({"weight_decay": 1e10}, "weight_decay"),
        ({"weight_decay": 1e300}, "weight_decay"),
        ({"learning_rate": 1e30, "optimizer": "muon"}, "learning_rate"),
    ],
)
def test_rates_and_decays_that_break_the_weights_are_named_and_all_that_is_written_is_strict_json(job, changes, key):
    job = replace(job, train=job.train.model_copy(update={"checkpoint_every": None} | changes))
    with pytest.raises(WorkError, match=rf"m: step \d+: the .*models\.m\.train\.{key}"):
        loop.train(job)
    assert not pace.found(job.folder / "checkpoints")
    for path in [*job.folder.glob("*.json"), *job.folder.glob("*.jsonl")]:
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(line, parse_constant=pytest.fail)
    if changes.get("optimizer") is None:
        assert any(record.get("validation_loss", 0) is None for record in metrics.read(job.folder))


def test_a_last_update_that_breaks_the_weights_is_no_model(job, monkeypatch):
    """The validation after the last step finds it: no step comes after that could."""
    step = Optimizer.step

    def broken(self, rate):
        step(self, rate)
        if rate == learning_rate(11, 12, job.train):
            next(iter(self.parts.values()))[0].value.data[0, 0] = math.nan

    monkeypatch.setattr(Optimizer, "step", broken)
    trained = weights_of(loop.train(job))
    assert same(trained, trained_on(job, range(8)))  # back to step 8; the rest is passed over
    assert all(weight.isfinite().all() for weight in trained.values())


def test_weights_to_start_from_must_be_finite(job, tmp_path):
    """torchtitan#916: a NaN in one weight of what training starts from."""
    model = Gemma2(SMALL).initialise(3)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = math.nan
    weights.save(model, tmp_path / "start")
    with pytest.raises(RequestError, match=r"start: model\.layers\.1\.mlp\.up_proj\.weight holds 1 or more values"):
        loop.train(replace(job, start_from=tmp_path / "start"))
    assert not (job.folder / "checkpoints").exists()


def test_the_running_mean_and_deviation_are_those_of_the_losses():
    losses = np.random.default_rng(0).normal(3, 0.1, 40).tolist()
    history = LossHistory()
    for loss in losses:
        history = history.add(loss)
    assert history.mean == pytest.approx(statistics.fmean(losses))
    assert math.sqrt(history.variance) == pytest.approx(statistics.pstdev(losses))


def test_a_spike_is_a_loss_far_above_the_last_ones():
    history = LossHistory()
    for loss in np.random.default_rng(0).normal(3, 0.1, 3 * WARMED_UP).tolist():
        assert not history.is_spike(loss)
        history = history.add(loss)
    assert history.is_spike(4.0)
    assert not history.is_spike(3.4)
    assert not history.is_spike(2.0)


def test_a_spikes_documents_are_written_down(job, monkeypatch):
    monkeypatch.setattr("gemmule.train.guards.WARMED_UP", 4)

    def jumping(model, batch, *rest, **more):
        loss = accumulate(model, batch, *rest, **more)
        return loss + 50 * (tuple(batch.starts) == tuple(job.windows.batch(8, job.windows_per_batch).starts))

    monkeypatch.setattr(loop, "accumulate", jumping)
    loop.train(job)
    spikes = [record for record in metrics.read(job.folder) if "spike_in_documents" in record]
    assert [record["step"] for record in spikes] == [9]
    starts = job.windows.batch(8, job.windows_per_batch).starts
    documents = {int(np.searchsorted(job.windows.shards.document_starts, p, "right")) - 1
                 for start in starts for p in range(start, min(start + 16, len(job.windows.shards)))}  # fmt: skip
    assert spikes[0]["spike_in_documents"] == sorted(documents)


def test_a_batch_in_which_all_is_damaged_is_no_update(job, monkeypatch):
    batch = job.windows.batch

    def damaged(step, *rest):
        found = batch(step, *rest)
        return replace(found, mask=np.zeros_like(found.mask), damaged=4) if step == 5 else found

    monkeypatch.setattr(job.windows, "batch", damaged)
    trained = weights_of(loop.train(job))
    monkeypatch.setattr(job.windows, "batch", batch)
    assert same(trained, trained_on(job, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]))
    record = next(record for record in metrics.read(job.folder) if "damaged_windows" in record)
    assert (record["step"], record["damaged_windows"], "loss" in record) == (6, 4, False)
