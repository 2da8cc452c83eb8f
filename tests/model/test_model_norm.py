"""The norm in blocks of rows against PyTorch's own, and against finite differences."""

import pytest
import torch
from torch.nn import functional as F

from gemmule.model.config import Gemma2Config
from gemmule.model.fast import norm


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(norm, "BLOCK", 3 * 8)  # three rows


@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (2, 5, 8)])
def test_values_and_gradients_equal_pytorchs(shape):
    x, scale, g = torch.randn(shape, requires_grad=True), torch.rand(8, requires_grad=True), torch.randn(shape)
    ours, theirs = norm.rms_norm_in_blocks(x, scale, 1e-6), F.rms_norm(x, (8,), scale, 1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for a, b in zip(torch.autograd.grad(ours, (x, scale), g), torch.autograd.grad(theirs, (x, scale), g), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_gradients_by_finite_differences():
    x = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    scale = torch.rand(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, scale: norm.rms_norm_in_blocks(x, scale, 1e-2), (x, scale))


def test_the_module_takes_the_blocks_where_it_trains(monkeypatch):
    layer, x = norm.RMSNorm(Gemma2Config(32, 1, 8, 2, 1, 4, 16, 8)), torch.randn(2, 5, 8)
    with torch.no_grad():
        plain = layer(x)
    calls = []
    blocks = norm.rms_norm_in_blocks
    monkeypatch.setattr(norm, "rms_norm_in_blocks", lambda *arguments: calls.append(1) or blocks(*arguments))
    torch.testing.assert_close(layer(x), plain)
    assert calls
