"""Sparse distributions: rows of them, and several as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gemmule.losses.targets import SparseDistributions

V = 9
RANDOM = np.random.default_rng(0)
COUNTS = [2, 0, 1, 3, 9, 1]  # entries of each row, an id twice in the fourth
IDS = [3, 1, 8, 0, 4, 4, *range(9), 2]
ENTROPY = RANDOM.uniform(0, 2, size=len(COUNTS)).astype(np.float32)


def sparse(entropy=True):
    return SparseDistributions(
        offsets=torch.tensor([0, *np.cumsum(COUNTS)]),
        ids=torch.tensor(IDS),
        probabilities=torch.arange(1, len(IDS) + 1) / 32,
        entropy=torch.tensor(ENTROPY) if entropy else None,
    )


def as_dense(rows):
    dense = np.zeros((len(rows), V), np.float32)
    for row, (start, stop) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
        for entry in range(start, stop):
            dense[row, rows.ids[entry]] += float(rows.probabilities[entry])
    return dense


def test_sparse_distributions_are_sliced_like_a_list():
    rows = sparse()
    dense = as_dense(rows)
    for part in (slice(1, 4), slice(None), slice(-2, None), slice(3, 99), slice(4, 4), slice(5, 2), slice(None, -5)):
        piece = rows[part]
        assert len(piece) == len(dense[part])
        assert piece.offsets[0] == 0
        np.testing.assert_array_equal(piece.entropy, ENTROPY[part])
        for row, expected in enumerate(dense[part]):
            entries = slice(piece.offsets[row], piece.offsets[row + 1])
            mine = np.zeros(V)
            np.add.at(mine, piece.ids[entries].numpy(), piece.probabilities[entries].numpy())
            np.testing.assert_array_equal(mine, expected)
    with pytest.raises(ValueError, match="steps of 1"):
        rows[::2]


def test_sparse_distributions_are_joined():
    rows = sparse()
    joined = SparseDistributions.concatenate([rows[:2], rows[2:2], rows[2:]])
    for name in ("offsets", "ids", "probabilities", "entropy"):
        assert torch.equal(getattr(joined, name), getattr(rows, name))
    assert SparseDistributions.concatenate([rows, sparse(entropy=False)]).entropy is None
    assert joined.to("meta").ids.device.type == "meta"
    assert sparse(entropy=False).to("meta").entropy is None
