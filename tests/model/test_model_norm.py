"""The fast norm against the formula of transformer.py and PyTorch's own, and against finite differences."""

import pytest
import torch
from torch.nn import functional as F

from gemmule.model import transformer
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_path_is_the_formula(dtype, monkeypatch):
    """In blocks of rows where it trains, by PyTorch's elsewhere."""
    x, weight = torch.randn(2, 5, 8).to(dtype), torch.randn(8)
    expected = transformer.rms_norm(x, weight, 1e-2)
    assert expected.dtype == dtype
    calls = []
    blocks = norm.rms_norm_in_blocks
    monkeypatch.setattr(norm, "rms_norm_in_blocks", lambda *arguments: calls.append(1) or blocks(*arguments))
    with torch.no_grad():
        torch.testing.assert_close(norm.rms_norm(x, weight, 1e-2), expected)
    assert not calls
    torch.testing.assert_close(norm.rms_norm(x, weight, 1e-2), expected)
    assert calls


def test_the_formula_by_hand():
    x = torch.tensor([[3.0, -4.0]])  # its mean square is 12.5
    normalised = transformer.rms_norm(x, torch.tensor([0.0, 1.0]), 0.0)
    assert normalised.tolist() == [pytest.approx([3 / 12.5**0.5, -8 / 12.5**0.5])]
