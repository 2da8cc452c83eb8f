"""Products of few rows and of many, divided among threads or not, equal PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from gemmule.base import linear


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1, 24), (2, 24), (3, 1, 24), (4, 5, 24), (linear.FEW, 24), (9, 8, 24)])
def test_every_number_of_rows(monkeypatch, shape, threads):
    monkeypatch.setattr(linear, "_threads", lambda: threads)
    x, weight = torch.randn(shape), torch.randn(16, 24)
    with torch.no_grad():
        product = linear.linear(x, weight)
    assert product.shape == (*shape[:-1], 16)
    torch.testing.assert_close(product, F.linear(x, weight), rtol=1e-5, atol=1e-5)


def test_few_rows_are_divided_among_the_threads(monkeypatch):
    """What makes them fast: one product for each thread, of all rows and its share of the matrix."""
    monkeypatch.setattr(linear, "_threads", lambda: 2)
    seen = []
    monkeypatch.setattr(torch, "bmm", lambda a, b, bmm=torch.bmm: seen.append((a.shape, b.shape)) or bmm(a, b))
    with torch.no_grad():
        linear.linear(torch.randn(5, 24), torch.randn(16, 24))
    assert seen == [((2, 5, 24), (2, 24, 8))]


@pytest.mark.parametrize("rows", [2, 8, 9, 65, 300])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_tall_matrix_is_multiplied_piece_by_piece(monkeypatch, rows, threads):
    monkeypatch.setattr(linear, "_threads", lambda: threads)
    pieces = []
    monkeypatch.setattr(
        torch, "mm", lambda x, piece, out, mm=torch.mm: pieces.append(piece.shape[1]) or mm(x, piece, out=out)
    )
    x, weight = torch.randn(rows, 16), torch.randn(linear.TALL + 7, 16)
    with torch.enable_grad():  # nothing here has a gradient: a teacher's logits
        torch.testing.assert_close(linear.linear(x[:, None], weight), F.linear(x, weight)[:, None])
    most = linear.PIECE * threads
    whole, rest = divmod(len(weight), most)
    assert pieces == ([most] * whole + [rest] if rows > 8 else [])


def test_gradients_flow():
    x, weight = torch.randn(3, 24, requires_grad=True), torch.randn(16, 24, requires_grad=True)
    linear.linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, -1))
