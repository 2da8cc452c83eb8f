"""Hashes of files: the same in threads, in order; and what ends them."""

import hashlib
import threading
import time
from pathlib import Path

import pytest

from gemmule.base import hashing
from gemmule.base.hashing import sha256_file, sha256_files


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Of 0 to 6 blocks, the larger ones for threads."""
    monkeypatch.setattr(hashing, "LARGE", 3000)
    monkeypatch.setattr(hashing, "BLOCK", 1000)
    monkeypatch.setattr(hashing, "cores", lambda: 3)
    paths = [tmp_path / f"{number:02d}" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (number * 337))
    return paths


def test_hashes_are_those_of_the_contents_in_order(files: list[Path]) -> None:
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert list(sha256_files(files)) == expected
    assert [sha256_file(path) for path in files] == expected
    assert list(sha256_files([])) == []


def test_it_is_told_how_far_they_are(files: list[Path]) -> None:
    told: list[int] = []
    list(sha256_files(files, told.append))
    assert told == sorted(told)
    assert told[-1] == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("number", [1, 15])
def test_one_that_can_not_be_read_is_named_when_it_is_its_turn(files: list[Path], number: int) -> None:
    files[number].unlink()
    files[number].mkdir()
    hashes = sha256_files(files)
    for _ in range(number):
        next(hashes)
    with pytest.raises(IsADirectoryError, match=files[number].name):
        next(hashes)


def test_threads_end_with_the_iteration(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __init__(self) -> None:
            time.sleep(0.05)

        update = hexdigest = lambda self, *_: None

    monkeypatch.setattr(hashing.hashlib, "sha256", Slow)
    threads, before = threading.active_count(), time.monotonic()
    hashes = sha256_files([*files[10:]] * 50)
    next(hashes)
    hashes.close()
    assert time.monotonic() - before < 1  # of 8 seconds
    assert threading.active_count() == threads
