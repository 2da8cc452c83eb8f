"""Reading ahead: the same batches, by another thread; errors at their step; and what is damaged is never learned."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_job import LARGE, LENGTH
from stored_targets import write_targets

from gemmule.base.errors import WorkError
from gemmule.model.transformer import Gemma2
from gemmule.recipe import Train
from gemmule.teach.targets.store import TargetStore
from gemmule.teach.teachers.gemma2 import Gemma2Teacher
from gemmule.tokenize import shards as shards_module
from gemmule.tokenize.shards import TokenShards, write_shards
from gemmule.tokenize.windows import Windows
from gemmule.train import loop, metrics
from gemmule.train.reading import AHEAD, ReadAhead, batch_reader, with_targets


def test_steps_come_as_read_and_the_next_ones_are_read_meanwhile():
    read, threads = [], set()
    begun = [threading.Event() for _ in range(10)]

    def square(step):
        read.append(step)
        threads.add(threading.current_thread())
        begun[step].set()
        return step * step

    with ReadAhead(square, stop=10) as ahead:
        assert ahead(0) == 0
        assert begun[AHEAD].wait(10)  # nobody has asked for it
        assert [ahead(step) for step in range(1, 10)] == [step * step for step in range(1, 10)]
    assert read == list(range(10))  # each once, none past the end
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_any_step_may_be_asked_for():
    """A run that is rolled back asks for earlier steps again, and one that skips for later ones."""
    with ReadAhead(lambda step: step, stop=100) as ahead:
        assert [ahead(step) for step in (5, 6, 2, 3, 50, 51, 99, 100)] == [5, 6, 2, 3, 50, 51, 99, 100]


def test_an_error_comes_at_the_step_that_needs_the_batch():
    def read(step):
        if step == 3:
            raise WorkError("step 3 is damaged")
        return step

    with ReadAhead(read, stop=10) as ahead:
        assert [ahead(step) for step in range(3)] == [0, 1, 2]
        with pytest.raises(WorkError, match="step 3 is damaged"):
            ahead(3)


@pytest.mark.parametrize("error", [WorkError("stop"), KeyboardInterrupt()])
def test_the_thread_ends_with_the_loop(error):
    before = threading.active_count()

    def train():
        with ReadAhead(lambda step: step, stop=1000) as ahead:
            ahead(0)
            raise error

    with pytest.raises(type(error)):
        train()
    assert threading.active_count() == before


@pytest.fixture
def job(job, words, texts, tmp_path, monkeypatch):
    """Learning from stored targets; tokens in blocks of 64."""
    monkeypatch.setattr(shards_module, "BLOCK", 64)
    shards = write_shards(texts[:4], words, tmp_path / "tokens")
    windows = Windows(shards, LENGTH, words.bos_id, words.pad_id, skip_damaged=True)
    write_targets(tmp_path / "targets", Gemma2Teacher(Gemma2(LARGE).initialise(5).eval()), windows, positions=10**6)
    few = Windows(write_shards(["the king"], words, tmp_path / "few"), LENGTH, words.bos_id, words.pad_id)
    train = Train(tokens=20 * 256, learning_rate=1e-2, batch_tokens=256)
    return replace(job, train=train, windows=windows, validation=few, targets=tmp_path / "targets")


def reopened(job, folder, **changes):
    """The job with its files read afresh, as by a new process."""
    windows = Windows(TokenShards(job.windows.shards.path), LENGTH, 2, 0, **changes)
    return replace(job, folder=folder, windows=windows)


def test_batches_carry_their_stored_targets(job):
    read, store = batch_reader(job), TargetStore(job.targets)
    batch = read(3)
    plain = job.windows.batch(3, job.windows_per_batch)
    assert batch.starts.tolist() == plain.starts.tolist()
    for part in (slice(0, 16), slice(4, 9), slice(12, 99)):
        expected = store.batch(plain[part])
        assert batch[part].stored.ids.tolist() == expected.ids.tolist()
        assert batch[part].stored.offsets.tolist() == expected.offsets.tolist()
        assert batch[part].stored.entropy.tolist() == expected.entropy.tolist()


def test_damaged_tokens_and_targets_are_said_counted_and_never_learned(job, tmp_path, capsys):
    """The weights do not depend on what stands in the damaged blocks, and are not those of the undamaged text."""
    whole = loop.train(job).state_dict()
    undamaged = [record for record in metrics.read(job.folder) if "loss" in record]
    assert not any("damaged_windows" in record for record in undamaged)
    tokens, targets = job.windows.shards.path / "tokens-00000.npy", job.targets / "blocks.bin"
    ids, blocks = np.load(tokens), targets.read_bytes()
    index = np.fromfile(job.targets / "index.bin", [("end", "<u8"), ("crc", "<u4")])
    place = int(index["end"][4]) + 40  # in the block of targets 1280 to 1535
    learned = {}
    for flip in (1, 2):
        ids[130] ^= 1024 * flip  # in the block of tokens 128 to 191
        np.save(tokens, ids)
        targets.write_bytes(blocks[:place] + bytes([blocks[place] ^ flip]) + blocks[place + 1 :])
        damaged = reopened(job, tmp_path / f"flip {flip}", skip_damaged=True)
        learned[flip] = loop.train(damaged).state_dict()
        records = [record for record in metrics.read(damaged.folder) if "loss" in record]
        assert len(records) == 20
        expected = 0
        bad = {*range(128 // LENGTH, 192 // LENGTH), *range(1280 // LENGTH, 1536 // LENGTH)}
        for step in range(20):
            starts = job.windows.batch(step, job.windows_per_batch).starts // LENGTH
            expected += sum(int(start) in bad for start in starts)
        assert sum(record.get("damaged_windows", 0) for record in records) == expected > 0
        assert records[-1]["tokens"] == undamaged[-1]["tokens"] - expected * LENGTH
    assert all(torch.equal(learned[1][name], learned[2][name]) for name in whole)
    assert not all(torch.equal(learned[1][name], whole[name]) for name in whole)
    said = capsys.readouterr().err
    assert said.count("tokens 128 to 191 are not what was written") == 1
    assert said.count("targets from 1280 on: checksum mismatch") == 1


def test_damage_stops_training_unless_the_recipe_says_otherwise(job, tmp_path):
    """At the step that needs it, before anything is learned from it."""
    tokens = job.windows.shards.path / "tokens-00000.npy"
    ids = np.load(tokens)
    ids[130] ^= 1
    np.save(tokens, ids)
    steps = [set(job.windows.batch(step, job.windows_per_batch).starts // LENGTH) for step in range(20)]
    first = next(step for step, windows in enumerate(steps) if windows & set(range(8, 12)))
    with pytest.raises(WorkError, match=r"tokens-00000.npy: tokens 128 to 191 are not what was written"):
        loop.train(reopened(job, tmp_path / "strict"))
    assert sum("loss" in record for record in metrics.read(tmp_path / "strict")) == first


def test_a_batch_all_skipped_has_targets_of_no_entries(job):
    batch = job.windows.window_batch([0, 1])
    batch.mask[:] = False
    stored = with_targets(batch, TargetStore(job.targets)).stored
    assert (len(stored), len(stored.ids)) == (2 * LENGTH, 0)
