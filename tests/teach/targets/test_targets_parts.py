"""Targets in the making: workers, interruptions, and what is taken over from earlier targets."""

import numpy as np
import pytest
import torch

from gemmule.losses.targets import DenseTeacher
from gemmule.teach.targets import parts as making
from gemmule.teach.targets.parts import Parts, common_tokens
from gemmule.teach.targets.solving import sample, solve
from gemmule.teach.targets.store import TargetStore
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Windows

LENGTH = 96  # segments of lcm(96, 256) = 768 tokens: eight windows, three blocks
VOCABULARY = 50


class Teacher:
    """Its distributions follow from the last token and its place; it can be asked so often and no more."""

    device = torch.device("cpu")
    vocabulary_size = VOCABULARY

    def __init__(self, patience=10**9):
        random = torch.Generator().manual_seed(0)
        self.table = torch.randn(VOCABULARY + 1024, 6, generator=random)
        self.weight = torch.randn(VOCABULARY, 6, generator=random)
        self.patience, self.asked = patience, 0

    def expect(self, ids, documents=None):
        if self.asked == self.patience:
            raise KeyboardInterrupt
        self.asked += 1
        hidden = self.table[ids] + self.table[VOCABULARY + torch.arange(ids.shape[1])]
        return DenseTeacher(hidden.flatten(0, 1), self.weight, None)


class Words:
    vocabulary_size, eos_id, content_hash = VOCABULARY, 0, ""

    def encode_batch(self, texts):
        return [[int(word) for word in text.split()] for text in texts]


def text(number, tokens=700):
    return " ".join(str(1 + token) for token in np.random.default_rng(number).integers(0, VOCABULARY - 1, tokens))


def stream(folder, documents):
    return Windows(write_shards(documents, Words(), folder), LENGTH, 1, 0)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(making, "SEGMENT", 1)


@pytest.fixture
def windows(tmp_path):
    return stream(tmp_path / "tokens", [text(number) for number in range(7)])  # 4,907 tokens: seven segments


@pytest.fixture
def coding(windows):
    return solve(sample(Teacher(), windows), "threshold", 20.0, 10**6)


def begun(folder, windows, coding, identity="this"):
    parts = Parts(folder, windows, {"what": identity})
    parts.prepare(coding, 1.0, "bucket")
    return parts


def merged(parts, folder):
    folder.mkdir()
    parts.merge(folder)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def alone(tmp_path, windows, coding):
    """The finished files of one process that was never disturbed."""
    parts = begun(tmp_path / "alone.parts", windows, coding)
    assert len(parts) == 7
    parts.teach(Teacher(), parts.missing(), seed=3)
    return merged(parts, tmp_path / "alone")


def test_four_workers_write_what_one_does(tmp_path, windows, coding, alone):
    begun(tmp_path / "parts", windows, coding)
    for worker in (2, 0, 3, 1):  # in any order
        parts = Parts(tmp_path / "parts", windows, {"what": "this"})
        assert parts.prepared
        parts.teach(Teacher(), range(worker, len(parts), 4), seed=3)
    assert parts.absent == 0
    assert merged(parts, tmp_path / "whole") == alone


def test_what_an_interruption_leaves_is_gone_on_with(tmp_path, windows, coding, alone):
    parts = begun(tmp_path / "parts", windows, coding)
    with pytest.raises(KeyboardInterrupt):
        parts.teach(Teacher(patience=3), parts.missing(), seed=3)  # a segment is one batch of eight windows
    assert parts.missing() == [3, 4, 5, 6]
    (tmp_path / "parts" / "segment-00000001").write_bytes(b"half")  # as a disk may lose it
    whole = (tmp_path / "parts" / "segment-00000002").read_bytes()
    (tmp_path / "parts" / "segment-00000002").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert parts.missing() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(making.WorkError, match="segment-00000001"):
        parts.merge(tmp_path)
    teacher = Teacher()
    parts.teach(teacher, parts.missing(), seed=3)
    assert teacher.asked == 6
    assert merged(parts, tmp_path / "whole") == alone


@pytest.mark.parametrize("length", [96, 100])  # of windows: eight of 100 tokens are no whole number of blocks
def test_of_a_slow_teacher_a_kill_costs_a_minute_and_what_is_read_at_once(tmp_path, coding, monkeypatch, length):
    """A segment of many readings, each of 61 s: killed in any of them, it goes on with that one, to the same bytes."""
    monkeypatch.setattr(making, "SEGMENT", 4000)
    shards = stream(tmp_path / "tokens", [text(number) for number in range(7)]).shards
    windows = Windows(shards, length, 1, 0)
    seconds = iter(range(0, 10**9, 61))
    monkeypatch.setattr(making, "running_seconds", lambda: float(next(seconds)))
    teacher = Teacher()
    whole = begun(tmp_path / "alone.parts", windows, coding)
    whole.teach(teacher, whole.missing(), seed=3)
    expected, readings = merged(whole, tmp_path / "alone"), teacher.asked
    assert readings == -(-len(shards) // (8 * length))
    for patience in range(1, readings):
        parts = begun(tmp_path / f"{patience}.parts", windows, coding)
        with pytest.raises(KeyboardInterrupt):
            parts.teach(Teacher(patience), parts.missing(), seed=3)
        told, again = [], Teacher()
        done = sum(len(parts.rows(number)) for number in set(range(len(parts))) - set(parts.missing()))
        parts.teach(again, parts.missing(), seed=3, progress=told.append)
        assert again.asked in (readings - patience, readings - patience + 1)  # one more where a block was begun
        assert sum(told) == len(shards) - done
        assert merged(parts, tmp_path / f"{patience}") == expected
        assert not list(parts.folder.glob("begun-*"))


def test_what_was_kept_of_a_segment_and_is_damaged_is_made_again(tmp_path, windows, coding, alone, monkeypatch):
    monkeypatch.setattr(making, "SEGMENT", 4000)
    monkeypatch.setattr(making, "KEPT_EVERY", 0.0)
    parts = begun(tmp_path / "parts", windows, coding)
    with pytest.raises(KeyboardInterrupt):
        parts.teach(Teacher(patience=3), parts.missing(), seed=3)
    (kept,) = parts.folder.glob("begun-*")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    teacher = Teacher()
    parts.teach(teacher, parts.missing(), seed=3)
    assert teacher.asked == 7
    assert merged(parts, tmp_path / "whole") == alone


def test_a_full_disk_is_told_by_path_and_reason(tmp_path, windows, coding, monkeypatch):
    parts = begun(tmp_path / "parts", windows, coding)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making.os, "fsync", full)
    with pytest.raises(making.WorkError, match=r"segment-00000000: can't be written: No space left on device"):
        parts.teach(Teacher(), [0], seed=3)
    assert sorted(path.name for path in parts.folder.iterdir()) == ["identity.json", "info.json", "order.bin"]


def test_parts_of_other_targets_are_not_gone_on_with(tmp_path, windows, coding):
    begun(tmp_path / "parts", windows, coding).teach(Teacher(), [0], seed=3)
    other = Parts(tmp_path / "parts", windows, {"what": "that"})
    assert not other.prepared
    other.prepare(coding, 1.0, "bucket")
    assert other.prepared
    assert other.missing() == list(range(7))


def test_a_longer_text_takes_over_what_is_the_same(tmp_path, windows, coding, alone):
    longer = stream(tmp_path / "longer", [text(number) for number in range(9)])
    store = TargetStore(tmp_path / "alone")
    common = common_tokens(windows.shards, longer.shards)
    assert common == len(windows.shards)
    parts = begun(tmp_path / "parts", longer, store.coding)
    assert parts.take_over(store, common) == 6 * 768
    assert parts.missing() == [6, 7, 8]
    teacher = Teacher()
    parts.teach(teacher, parts.missing(), seed=3)
    assert teacher.asked == 3
    anew = begun(tmp_path / "anew.parts", longer, coding)
    anew.teach(Teacher(), anew.missing(), seed=3)
    assert merged(parts, tmp_path / "whole") == merged(anew, tmp_path / "anew")


def test_common_tokens_end_where_texts_or_documents_differ(tmp_path, windows):
    documents = [text(number) for number in range(7)]
    inserted = stream(tmp_path / "inserted", [*documents[:2], text(99), *documents[2:]])
    assert common_tokens(windows.shards, inserted.shards) == 2 * 701
    assert common_tokens(inserted.shards, windows.shards) == 2 * 701
    shorter = stream(tmp_path / "shorter", documents[:3])
    assert common_tokens(windows.shards, shorter.shards) == 3 * 701
    other = stream(tmp_path / "other", [text(99)])
    assert common_tokens(windows.shards, other.shards) == 0
    split = stream(tmp_path / "split", [documents[0] + " 0 " + documents[1], *documents[2:]])  # alike but for the cut
    assert common_tokens(windows.shards, split.shards) == 701
