"""Logits of a head, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gemmule.losses.logits import capped_logits


def test_logits_are_capped():
    hidden, weight = torch.tensor([[1.0, -2.0]]), torch.tensor([[30.0, 0.0], [0.0, 30.0], [1.0, 1.0]])
    logits = capped_logits(hidden, weight, 30.0)
    assert logits[0].tolist() == pytest.approx([30 * np.tanh(1), 30 * np.tanh(-2), 30 * np.tanh(-1 / 30)])
    assert capped_logits(hidden, weight, None)[0].tolist() == [30, -60, -1]
