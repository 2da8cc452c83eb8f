"""Windows: by a case worked by hand, and by enumeration of everything that they give out."""

from pathlib import Path

import numpy as np
import pytest

from gemmule.base.errors import RequestError, WorkError
from gemmule.tokenize import shards as shards_module
from gemmule.tokenize.shards import TokenShards, write_shards
from gemmule.tokenize.windows import Windows, permute

BOS, EOS, PAD = 2, 1, 0


class Letters:
    """A tokenizer of one id a character: a is 10, b 11, ..."""

    vocabulary_size = 300
    eos_id = EOS
    content_hash = "letters"

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [[ord(character) - 87 for character in text] for text in texts]


def stream(folder: Path, *documents: str | list[tuple[str, bool]], shard_tokens: int = 7) -> TokenShards:
    return write_shards(documents, Letters(), folder, shard_tokens=shard_tokens)


def test_windows_by_hand(tmp_path: Path) -> None:
    # a b c <eos> | d e <eos> f | g <eos>
    windows = Windows(stream(tmp_path, "abc", "de", "fg"), 4, BOS, PAD)
    assert len(windows) == 3
    batch = windows.window_batch([0, 1, 2])
    assert batch.targets.tolist() == [[10, 11, 12, 1], [13, 14, 1, 15], [16, 1, 0, 0]]
    assert batch.inputs.tolist() == [[2, 10, 11, 12], [2, 13, 14, 1], [2, 16, 1, 0]]
    assert batch.mask.tolist() == [[True] * 4, [True] * 4, [True, True, False, False]]
    assert batch.starts.tolist() == [0, 4, 8]
    assert [array.dtype for array in (batch.inputs, batch.targets, batch.mask, batch.starts)] == [
        np.int64, np.int64, np.bool_, np.int64,
    ]  # fmt: skip
    assert windows.window_batch(range(2, 0, -1)).starts.tolist() == [8, 4]


def test_the_documents_of_a_window_by_hand(tmp_path: Path) -> None:
    # a b c <eos> | d e <eos> f | g <eos>
    shards = stream(tmp_path, "abc", "de", "fg")
    batch = Windows(shards, 4, BOS, PAD, separate_documents=True).window_batch([0, 1, 2])
    assert batch.inputs.tolist() == [[2, 10, 11, 12], [2, 13, 14, 2], [2, 16, 1, 0]]
    assert batch.documents is not None
    assert batch.documents.tolist() == [[0, 0, 0, 0], [1, 1, 1, 2], [2, 2, 2, 2]]
    batch = Windows(shards, 5, BOS, PAD, separate_documents=True).window_batch([0, 1])
    assert batch.inputs.tolist() == [[2, 10, 11, 12, 2], [2, 14, 2, 15, 16]]
    assert batch.documents is not None
    assert batch.documents.tolist() == [[0, 0, 0, 0, 1], [1, 1, 2, 2, 2]]
    second = batch[1:2]
    assert second.documents is not None
    assert second.documents.tolist() == [[1, 1, 2, 2, 2]]
    assert second.model_inputs("cpu")["documents"].tolist() == [[1, 1, 2, 2, 2]]
    packed = Windows(shards, 5, BOS, PAD).window_batch([0, 1])
    assert packed.documents is None
    assert list(packed[:1].model_inputs("cpu")) == ["ids"]


def test_a_window_longer_than_the_text(tmp_path: Path) -> None:
    windows = Windows(stream(tmp_path, "ab"), 8, BOS, PAD)
    batch = windows.batch(step=5, windows_per_batch=2)
    assert batch.targets.tolist() == [[10, 11, 1, 0, 0, 0, 0, 0]] * 2
    assert batch.inputs.tolist() == [[2, 10, 11, 1, 0, 0, 0, 0]] * 2
    assert batch.mask.tolist() == [[True] * 3 + [False] * 5] * 2


def test_windows_of_one_token(tmp_path: Path) -> None:
    batch = Windows(stream(tmp_path, "ab"), 1, BOS, PAD).window_batch(range(3))
    assert batch.inputs.tolist() == [[2], [2], [2]]
    assert batch.targets.tolist() == [[10], [11], [1]]


def test_the_mask_of_the_shards_is_kept(tmp_path: Path) -> None:
    windows = Windows(stream(tmp_path, [("ab", False), ("c", True)], "d"), 4, BOS, PAD)
    batch = windows.window_batch([0, 1])
    assert batch.mask.tolist() == [[False, False, True, True], [True, True, False, False]]


LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(("length", "windows_per_batch"), [(4, 3), (5, 4), (28, 1), (3, 20)])
def test_every_token_once_an_epoch(tmp_path: Path, length: int, windows_per_batch: int) -> None:
    """Steps enumerated over several epochs; each epoch's windows are all windows, its learned targets all tokens."""
    tokens = stream(tmp_path, LETTERS, "xyz", LETTERS[:7])
    windows = Windows(tokens, length, BOS, PAD, seed=3)
    n = len(windows)
    epochs = 4
    steps = -(-n * epochs // windows_per_batch)
    batches = [windows.batch(step, windows_per_batch) for step in range(steps)]
    starts = np.concatenate([batch.starts for batch in batches])[: n * epochs].reshape(epochs, n)
    targets = np.concatenate([batch.targets for batch in batches])[: n * epochs].reshape(epochs, n, length)
    mask = np.concatenate([batch.mask for batch in batches])[: n * epochs].reshape(epochs, n, length)
    for epoch in range(epochs):
        order = np.argsort(starts[epoch])
        assert starts[epoch][order].tolist() == list(range(0, len(tokens), length))
        assert targets[epoch][order][mask[epoch][order]].tolist() == tokens[:].tolist()


def test_order_is_shuffled_and_differs_by_epoch_and_seed(tmp_path: Path) -> None:
    tokens = stream(tmp_path, LETTERS * 4)

    def order(seed: int, epoch: int) -> list[int]:
        return Windows(tokens, 4, BOS, PAD, seed).batch(epoch, 27).starts.tolist()

    orders = [order(0, 0), order(0, 1), order(0, 2), order(1, 0), order(1, 1), order(-1, 0), order(2**63, 0)]
    assert all(sorted(one) == list(range(0, 105, 4)) for one in orders)
    assert len({tuple(one) for one in orders}) == len(orders)
    assert list(range(0, 105, 4)) not in orders
    assert order(0, 1) == orders[1]


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_partition_the_batch(tmp_path: Path, world_size: int) -> None:
    windows = Windows(stream(tmp_path, LETTERS * 3), 4, BOS, PAD, seed=1)
    for step in (0, 1, 7, 1000):
        whole = windows.batch(step, 6)
        parts = [windows.batch(step, 6, rank, world_size) for rank in range(world_size)]
        for name in ("inputs", "targets", "mask", "starts"):
            assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


@pytest.mark.parametrize(("windows_per_batch", "world_size"), [(7, 2), (16, 3), (5, 4), (2, 8)])
def test_ranks_that_share_unevenly_get_as_many_windows_some_masked_out(
    tmp_path: Path, windows_per_batch: int, world_size: int
) -> None:
    windows = Windows(stream(tmp_path, LETTERS * 3), 4, BOS, PAD, seed=1)
    for step in (0, 7):
        whole = windows.batch(step, windows_per_batch)
        parts = [windows.batch(step, windows_per_batch, rank, world_size) for rank in range(world_size)]
        assert {len(part.starts) for part in parts} == {-(-windows_per_batch // world_size)}
        learned = [start for part in parts for start in part.starts[part.mask.any(axis=1)].tolist()]
        assert learned == whole.starts.tolist()
        assert sum(part.mask.sum() for part in parts) == whole.mask.sum()


def test_any_step_is_reached_at_once(tmp_path: Path) -> None:
    """Step k by itself, from a loader newly made, is what reading all steps before gives; other batch sizes agree."""
    tokens = stream(tmp_path, LETTERS * 3)
    singles = [Windows(tokens, 4, BOS, PAD, seed=1).batch(number, 1).starts[0] for number in range(120)]
    for step in (0, 3, 9):
        assert (
            Windows(tokens, 4, BOS, PAD, seed=1).batch(step, 12).starts.tolist() == singles[12 * step : 12 * step + 12]
        )


def test_permutation_is_one_for_every_n() -> None:
    for n in [*range(1, 130), 1000, 1023, 1024, 1025, 4099]:
        for epoch in (0, 1):
            assert np.array_equal(np.sort(permute(np.arange(n), n, 7, np.full(n, epoch))), np.arange(n)), n


def test_permutation_of_many_needs_no_memory_for_them() -> None:
    n = 10**14
    places = np.array([0, 1, 2, n - 1])
    numbers = permute(places, n, 0, 0)
    assert len(set(numbers.tolist())) == 4
    assert ((numbers >= 0) & (numbers < n)).all()


def test_permutation_is_even() -> None:
    """Every window comes at every place about equally often, and so does every pair in a row (chi squared, fixed)."""
    n, epochs = 12, 6000
    orders = np.array([permute(np.arange(n), n, 0, np.full(n, epoch)) for epoch in range(epochs)])
    expected = epochs / n
    for place in range(n):
        counts = np.bincount(orders[:, place], minlength=n)
        assert ((counts - expected) ** 2 / expected).sum() < 40  # 11 degrees of freedom: 1 in 30,000
    pairs = np.bincount((orders[:, :-1] * n + orders[:, 1:]).ravel(), minlength=n * n).reshape(n, n)
    assert (np.diag(pairs) == 0).all()
    expected = epochs * (n - 1) / (n * (n - 1))
    others = pairs[~np.eye(n, dtype=bool)]
    assert ((others - expected) ** 2 / expected).sum() < 200  # 131 degrees of freedom


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    tokens = stream(tmp_path / "a", "abc")
    windows = Windows(tokens, 2, BOS, PAD)
    with pytest.raises(RequestError, match="0 windows"):
        windows.batch(0, 0)
    with pytest.raises(IndexError):
        windows.window_batch([2])
    with pytest.raises(IndexError):
        windows.window_batch([-1])
    with pytest.raises(RequestError, match="sequence_length 0"):
        Windows(tokens, 0, BOS, PAD)
    with pytest.raises(RequestError, match="no tokens"):
        Windows(stream(tmp_path / "b"), 4, BOS, PAD)


def test_windows_with_damaged_tokens_stop_or_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks of 5 tokens, windows of 4; a bit of token 6 is flipped: windows 1 and 2 touch 5 to 9."""
    monkeypatch.setattr(shards_module, "BLOCK", 5)
    whole = Windows(stream(tmp_path, "abcdefghijklmno", shard_tokens=100), 4, BOS, PAD).window_batch(range(4))
    file = tmp_path / "tokens-00000.npy"
    ids = np.load(file)
    ids[6] ^= 1024  # beyond the vocabulary: a model that read it would fail
    np.save(file, ids)
    with pytest.raises(WorkError, match=r"tokens-00000.npy: tokens 5 to 9 are not what was written"):
        Windows(TokenShards(tmp_path), 4, BOS, PAD).window_batch([2])
    windows = Windows(TokenShards(tmp_path), 4, BOS, PAD, skip_damaged=True)
    for _ in range(2):
        batch = windows.window_batch(range(4))
        assert batch.damaged == 2
        assert (batch.targets[[0, 3]] == whole.targets[[0, 3]]).all()
        assert (batch.inputs[[0, 3]] == whole.inputs[[0, 3]]).all()
        assert batch.targets[1:3].tolist() == [[PAD] * 4] * 2
        assert batch.inputs[1:3].tolist() == [[BOS, PAD, PAD, PAD]] * 2
        assert batch.mask.tolist() == [[True] * 4, [False] * 4, [False] * 4, [True] * 4]
    assert windows.window_batch([0, 3]).damaged == 0
    assert capsys.readouterr().err.count("tokens 5 to 9 are not what was written; windows with any of them") == 1
