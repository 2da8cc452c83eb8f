"""Which checkpoints are kept, and what happens when one can't be written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_job import same, weights_of

from gemmule.base import artifact
from gemmule.base.errors import WorkError
from gemmule.model import weights
from gemmule.train import checkpoint, loop, metrics


def kept(job, **policy):
    job = replace(job, train=job.train.model_copy(update={"checkpoint_every": 1, **policy}))
    loop.train(job)
    return [int(path.name.removeprefix("step-")) for path in checkpoint.found(job.folder / "checkpoints")]


def test_the_newest_are_kept_and_every_so_many_steps_one(job, tmp_path):
    assert kept(job) == [11, 12]
    assert kept(replace(job, folder=tmp_path / "b"), keep_last=1, keep_every=5) == [5, 10, 12]


def test_the_best_is_kept(job, monkeypatch):
    losses = iter([3.0, 2.9, 2.5, 2.7, 2.6, 2.8, 2.6, 2.9, 3.0, 3.1, 3.2, 3.3])
    monkeypatch.setattr(loop, "validate", lambda *_: next(losses))
    assert kept(job, keep_last=1, keep_best=True) == [3, 12]
    written = [record["validation_loss"] for record in metrics.read(job.folder) if "validation_loss" in record]
    assert min(written) == 2.5


def test_what_is_kept_changes_no_weight(job, tmp_path):
    first = weights_of(loop.train(job))
    other = replace(job, folder=tmp_path / "b", train=job.train.model_copy(update={"checkpoint_every": 1}))
    assert same(first, weights_of(loop.train(other)))


def test_a_checkpoint_that_cannot_be_written_stops_training_and_leaves_the_one_before(job, monkeypatch):
    whole = weights_of(loop.train(replace(job, folder=job.folder.with_name("whole"))))
    write = weights.write

    def full(model, folder):
        if "00000008" in folder.name:
            raise WorkError(f"{folder}: the model can't be written: No space left on device")
        write(model, folder)

    monkeypatch.setattr(weights, "write", full)
    with pytest.raises(WorkError, match="No space left"):
        loop.train(job)
    (last,) = checkpoint.found(job.folder / "checkpoints")
    assert last.name == "step-00000004"
    artifact.verify(artifact.read(last))
    assert not list((job.folder / "checkpoints").glob(".*"))
    monkeypatch.setattr(weights, "write", write)
    assert same(whole, weights_of(loop.train(job)))


def test_what_is_written_is_what_was_there_when_it_began(job, monkeypatch):
    """The thread writes copies: updates that come meanwhile are not in them."""
    write, begun = weights.write, []

    def slow(model, folder):
        begun.append(folder.name)
        while len(metrics.read(job.folder)) < 13 and "00000004" in folder.name:  # until some steps later
            pass
        write(model, folder)

    monkeypatch.setattr(weights, "write", slow)
    loop.train(replace(job, train=job.train.model_copy(update={"keep_last": 9})))
    assert len(begun) == 3
    fast = replace(job, folder=job.folder.with_name("fast"))
    monkeypatch.setattr(weights, "write", write)
    loop.train(replace(fast, train=fast.train.model_copy(update={"keep_last": 9})))
    for mine, theirs in zip(*(checkpoint.found(at.folder / "checkpoints") for at in (job, fast)), strict=True):
        for name in ("model.safetensors", "optimizer.safetensors"):
            assert (mine / name).read_bytes() == (theirs / name).read_bytes()
