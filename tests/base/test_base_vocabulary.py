"""Numbers of every vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from gemmule.base import vocabulary
from gemmule.tokenize.training import train


@pytest.mark.parametrize(("size", "expected"), [(2, 2), (65_536, 2), (65_537, 4), (262_144, 4)])
def test_ids_are_as_wide_as_the_largest_needs(size, expected):
    assert vocabulary.id_bytes(size) == expected
    kind = np.dtype(vocabulary.id_type(size))
    assert (kind.itemsize, kind.kind, kind.str[0]) == (expected, "u", "<")
    assert np.array([size - 1]).astype(kind)[0] == size - 1


def test_the_smallest_vocabulary_is_the_smallest_that_can_be_trained():
    tokenizer = train(["abc"], vocabulary.SMALLEST_VOCABULARY)
    assert tokenizer.vocabulary_size == vocabulary.SMALLEST_VOCABULARY
