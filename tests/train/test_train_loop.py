"""The training loop: gradients over micro-batches, exact continuation, what is written, what stops it."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small_job import LARGE, LENGTH, PLAIN, SMALL, same, weights_of
from stored_targets import write_targets

from gemmule.base import artifact
from gemmule.base.errors import Terminated
from gemmule.model import weights
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Distill, Train
from gemmule.teach.targets.store import TargetStore
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.teach.teachers.gemma2 import load as load_teacher
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Batch, Windows
from gemmule.train import checkpoint, loop, metrics
from gemmule.train.job import Job
from gemmule.train.loop import Trainer
from gemmule.train.objective import accumulate, make_signal, token_weights
from gemmule.train.optimizer import Optimizer
from gemmule.train.reading import with_targets
from gemmule.train.schedule import learning_rate, next_token_weight, validation_windows


def masked_batch(windows):
    """16 windows with very different numbers of learned tokens."""
    batch = windows.window_batch(range(16))
    counts = np.linspace(1, LENGTH, 16).astype(int)
    mask = np.arange(LENGTH) < counts[:, None]
    return Batch(batch.inputs, batch.targets, mask, batch.starts)


@pytest.mark.parametrize("kind", ["hard", "live", "stored", "mixed", "weighted"])
def test_micro_batches_change_neither_loss_nor_gradients(job, windows, teacher_folder, tmp_path, kind):
    """verl#7200: the mean is over the learned tokens of the whole batch, however it is cut."""
    how = {"next_token_weight": 0.3 if kind == "mixed" else 0.0}
    batch = masked_batch(windows)
    if kind in ("stored", "weighted"):
        (tmp_path / "targets").mkdir()
        teacher = load_teacher(teacher_folder, torch.device("cpu"))
        batch = with_targets(batch, write_targets(tmp_path / "targets", teacher, windows, positions=10**6))
        job = replace(job, targets=tmp_path / "targets")
        how["weights"] = token_weights(batch) if kind == "weighted" else None
    elif kind != "hard":
        job = replace(job, teacher=partial(load_teacher, teacher_folder))
    targets_of = make_signal(job, torch.device("cpu"))
    results = {}
    for size in (16, 4, 1):
        model = Gemma2(SMALL).initialise(0).double()
        loss = accumulate(model, batch, targets_of, windows_per_micro_batch=size, **how)
        results[size] = loss, [parameter.grad for parameter in model.parameters()]
    for size in (4, 1):
        assert results[size][0] == pytest.approx(results[16][0], rel=1e-6)
        for mine, whole in zip(results[size][1], results[16][1], strict=True):
            assert (mine - whole).norm() <= 1e-6 * whole.norm()


def test_the_loss_is_the_mean_over_learned_tokens(job, windows):
    batch = masked_batch(windows)
    model = Gemma2(SMALL).initialise(0)
    loss = accumulate(model, batch, make_signal(job, torch.device("cpu")), windows_per_micro_batch=5)
    log_probabilities = torch.log_softmax(model(torch.from_numpy(batch.inputs)).double(), -1)
    picked = log_probabilities.gather(-1, torch.from_numpy(batch.targets)[..., None])[..., 0]
    assert loss == pytest.approx(-picked[torch.from_numpy(batch.mask)].mean().item(), rel=1e-5)


def test_tokens_count_by_the_teachers_entropy(windows, teacher_folder, tmp_path):
    store = write_targets(
        tmp_path / "t", load_teacher(teacher_folder, torch.device("cpu")), windows, bytes_per_token=100, positions=10**6
    )
    batch = with_targets(masked_batch(windows), store)
    weights = token_weights(batch)
    model = load_teacher(teacher_folder, torch.device("cpu")).model
    p = model(torch.from_numpy(batch.inputs)).softmax(-1)
    entropy = torch.special.entr(p).sum(-1)[torch.from_numpy(batch.mask)]
    assert (weights[~batch.mask] == 0).all()
    assert weights.sum() == pytest.approx(batch.mask.sum())
    torch.testing.assert_close(
        torch.from_numpy(weights[batch.mask]), entropy.detach() / entropy.mean().item(), rtol=1e-3, atol=1e-3
    )


def test_the_next_token_weight_changes_the_signal_over_training(job, teacher_folder):
    """At 1 less a little the student learns the text, at 0 the teacher: both ends, and the middle of the schedule."""
    distill = Distill(next_token_weight=[0.8, 0.2])
    assert [next_token_weight(step, 4, distill) for step in range(4)] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert next_token_weight(0, 1, distill) == 0.8
    assert next_token_weight(3, 9, Distill(next_token_weight=0.3)) == 0.3
    seen = []
    real = loop.accumulate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "accumulate", lambda *a, **k: seen.append(k["next_token_weight"]) or real(*a, **k))
        loop.train(replace(job, teacher=partial(load_teacher, teacher_folder), distill=distill))
    assert seen == pytest.approx([0.8 - 0.6 * step / (job.steps - 1) for step in range(job.steps)])


def test_stored_targets_teach_what_the_live_teacher_teaches(job, windows, teacher_folder, tmp_path):
    """At the smallest threshold, 1/4096, both give the same loss and gradient but for what rounding adds."""
    (tmp_path / "targets").mkdir()
    teacher = load_teacher(teacher_folder, torch.device("cpu"))
    write_targets(tmp_path / "targets", teacher, windows, bytes_per_token=2000, temperature=2.0, positions=10**6)
    distill = Distill(temperature=2.0)
    batch = with_targets(windows.window_batch(range(8)), TargetStore(tmp_path / "targets"))
    losses, gradients = [], []
    for changes in ({"teacher": partial(load_teacher, teacher_folder)}, {"targets": tmp_path / "targets"}):
        model = Gemma2(SMALL).initialise(0)
        targets_of = make_signal(replace(job, distill=distill, **changes), torch.device("cpu"))
        losses.append(accumulate(model, batch, targets_of, windows_per_micro_batch=8, distill=distill))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert (gradients[1] - gradients[0]).norm() < 0.02 * gradients[0].norm()


def test_validations_take_a_twentieth_of_trainings_work():
    """20 of them; a window read forward is a third of one learned from."""
    for steps, windows in ((488, 8), (195, 8), (300, 16)):
        count = validation_windows(steps, windows)
        assert 20 * count / 3 <= 0.05 * steps * windows < 20 * (count + 1) / 3 or count == 32
    assert (validation_windows(10, 1), validation_windows(10**6, 64)) == (8, 32)


def test_training_learns_and_writes_what_it_did(job, windows):
    before = loop.validate(Gemma2(SMALL).initialise(0), windows, torch.device("cpu"))
    model = loop.train(job)
    records = metrics.read(job.folder)
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 13))
    assert [record["tokens"] for record in steps] == [64 * step for step in range(1, 13)]
    assert [record["learning_rate"] for record in steps] == [learning_rate(s, 12, job.train) for s in range(12)]
    validation = [record["validation_loss"] for record in records if "validation_loss" in record]
    assert validation[-1] == pytest.approx(loop.validate(model, windows, torch.device("cpu"), 8))
    assert validation[-1] < before - 0.5
    assert list((job.folder / "tensorboard").glob("events*"))
    assert [path.name for path in checkpoint.found(job.folder / "checkpoints")] == ["step-00000008", "step-00000012"]


def test_a_budget_that_windows_do_not_fill_is_said(job, words, tmp_path):
    """Of the last window of so short a text half is padding; without a `<bos>` each window counts a token less."""
    shards = write_shards(["the king said and the queen saw"], words, tmp_path / "short")
    share = len(shards) / (-(-len(shards) // LENGTH) * LENGTH)
    short = replace(job, windows=Windows(shards, LENGTH, words.bos_id, words.pad_id))
    assert share < 0.98
    assert f"trains on about {round(768 * share):,} tokens where train.tokens = 768" in short.describe_budget()
    assert "rounded" not in short.describe_budget()
    loop.train(short)
    learned = [record for record in metrics.read(short.folder) if "loss" in record][-1]["tokens"]
    assert learned == pytest.approx(768 * share, rel=0.05)
    without = replace(job, windows=Windows(shards, LENGTH, None, words.pad_id))
    assert without.windows.learned_share == pytest.approx(share - 1 / LENGTH)
    assert job.describe_budget() == ""  # the last of many windows is short: less than a hundredth
    few = replace(job, train=job.train.model_copy(update={"tokens": 70}))
    assert "it is rounded to whole batches of 64" in few.describe_budget()


def test_a_mask_counts_in_the_budget(words, tmp_path):
    documents = [[("the king said ", False), ("and the queen saw", True)]] * 5
    shards = write_shards(documents, words, tmp_path / "masked")
    assert shards.learned_tokens == int(shards.mask(0, len(shards)).sum()) < len(shards)


def test_the_name_and_the_folder_change_nothing(job, tmp_path):
    first = weights_of(loop.train(job))
    other = weights_of(loop.train(replace(job, name="other", folder=tmp_path / "other")))
    assert same(first, other)
    third = weights_of(loop.train(replace(job, folder=tmp_path / "third", seed=1)))
    assert not same(first, third)


def test_going_on_from_a_checkpoint_is_as_if_nothing_had_happened(job, tmp_path):
    whole = weights_of(loop.train(job))
    resumed = replace(job, folder=tmp_path / "resumed")
    (resumed.folder / "checkpoints").mkdir(parents=True)
    (job.folder / "checkpoints" / "step-00000008").rename(resumed.folder / "checkpoints" / "step-00000008")
    lines = (job.folder / "metrics.jsonl").read_text().splitlines()
    (resumed.folder / "metrics.jsonl").write_text("\n".join(lines[:17]) + "\n" + lines[17][:20])
    assert same(whole, weights_of(loop.train(resumed)))
    mine, theirs = metrics.read(resumed.folder), metrics.read(job.folder)
    for record in mine + theirs:
        record.pop("seconds", None), record.pop("tokens_per_second", None)
    assert mine == theirs


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(job, capsys):
    whole = weights_of(loop.train(job))
    (job.folder / "checkpoints" / "step-00000012" / "model.safetensors").write_bytes(b"garbage")
    assert same(whole, weights_of(loop.train(job)))
    assert "step-00000012" in capsys.readouterr().err
    assert list((job.folder / "checkpoints" / "damaged").iterdir())


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_ctrl_c_and_sigterm_finish_the_step_and_save(job, tmp_path, monkeypatch, number, reason):
    whole = weights_of(loop.train(replace(job, folder=tmp_path / "whole")))
    advance = Trainer.advance

    def interrupted_step(trainer):
        if trainer.state.step == 5:
            os.kill(os.getpid(), number)
        return advance(trainer)

    before = signal.getsignal(number)
    monkeypatch.setattr(Trainer, "advance", interrupted_step)
    with pytest.raises(reason):
        loop.train(job)
    assert checkpoint.found(job.folder / "checkpoints")[-1].name == "step-00000006"
    monkeypatch.setattr(Trainer, "advance", advance)
    assert same(whole, weights_of(loop.train(job)))
    assert signal.getsignal(number) is before


def test_a_checkpoint_is_a_model_folder_and_an_artifact(job):
    loop.train(job)
    path = checkpoint.found(job.folder / "checkpoints")[0]
    artifact.verify(artifact.read(path))
    assert weights.load(path).config.to_huggingface() == SMALL.to_huggingface()
    assert json.loads((path / "state.json").read_text())["tokens"] == 8 * 64


def test_training_starts_from_given_weights(job, windows, tmp_path):
    trained = loop.train(job)
    weights.save(trained, tmp_path / "start")
    again = replace(job, folder=tmp_path / "again", start_from=tmp_path / "start")
    loop.train(again)
    first = next(record for record in metrics.read(again.folder) if "validation_loss" in record)
    assert first["validation_loss"] < loop.validate(trained, windows, torch.device("cpu")) + 0.1


def test_the_schedule_by_hand():
    train = Train(tokens=1, learning_rate=1.0, warmup_fraction=0.2, schedule="cosine", final_learning_rate_fraction=0.1)
    rates = [learning_rate(step, 10, train) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 3 / 7)) / 2)
    assert learning_rate(0, 1, train) == 1.0


@pytest.mark.parametrize(
    ("steps", "changes", "by_hand"),
    [
        (10, {"decay_fraction": 0.3}, [1, 1, 1, 1, 1, 1, 1, 0.7, 0.4, 0.1]),
        (10, {"decay_fraction": 0.2, "warmup_fraction": 0.2}, [0.5, 1, 1, 1, 1, 1, 1, 1, 0.55, 0.1]),
        (3, {"decay_fraction": 1.0, "warmup_fraction": 0.0}, [0.7, 0.4, 0.1]),
        (4, {"decay_fraction": 0.5, "warmup_fraction": 0.75}, [1 / 3, 2 / 3, 1, 0.1]),
        (2, {}, [1, 0.1]),
        (1, {}, [1]),
    ],
)
def test_a_rate_that_stays_and_falls_by_hand(steps, changes, by_hand):
    train = Train(tokens=1, learning_rate=1.0, schedule="wsd", final_learning_rate_fraction=0.1, **changes)
    assert [learning_rate(step, steps, train) for step in range(steps)] == pytest.approx(by_hand)


def test_the_warm_up_is_as_long_whatever_the_length_of_training():
    train = Train(tokens=1, learning_rate=1.0)
    assert learning_rate(0, 100, train) == learning_rate(0, 10**6, train) == 0.1
    assert learning_rate(0, 30, train) == pytest.approx(1 / 3)


def test_targets_at_the_wrong_places_lose_to_no_teacher_at_all(words, texts, tmp_path):
    """That distillation helps by what it says about each token: the same targets, moved along, must hurt."""
    shards = write_shards(texts, words, tmp_path / "tokens")
    windows = Windows(shards, LENGTH, words.bos_id, words.pad_id, seed=0)
    budget = Train(tokens=80 * 256, learning_rate=1e-2, batch_tokens=256)
    common = {"distill": Distill(), "machine": PLAIN, "seed": 0, "windows": windows, "validation": windows,
              "settings": {}, "inputs": {}, "train": budget}  # fmt: skip
    teacher = loop.train(Job(name="teacher", folder=tmp_path / "teacher", config=LARGE, **common))
    (tmp_path / "targets").mkdir()
    write_targets(tmp_path / "targets", Gemma2Teacher(teacher), windows, bytes_per_token=20, positions=10**6)
    store = TargetStore(tmp_path / "targets")

    def learn(targets_of):
        model = Gemma2(SMALL).initialise(0)
        optimizer = Optimizer(model, budget)
        for step in range(50):
            optimizer.zero_grad()
            accumulate(model, windows.batch(step, 16), targets_of, windows_per_micro_batch=16)
            optimizer.step(1e-2)
        return loop.validate(model, windows, torch.device("cpu"))

    def moved(batch):
        starts = (batch.starts + len(windows) // 2 * LENGTH) % ((len(windows) - 1) * LENGTH)
        return store.batch(replace(batch, starts=starts))

    right, shifted = learn(store.batch), learn(moved)
    alone = learn(lambda batch: torch.from_numpy(batch.targets))
    assert shifted > alone + 0.2
    assert right < alone + 0.05
