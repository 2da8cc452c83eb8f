"""Products with a weight matrix, fast on a CPU for few rows and for tall matrices too.

- Few rows are a token of each text that is generated. The CPU's library (MKL) divides the rows among its threads, so
  that few of them leave threads idle. Here the matrix is divided instead: each thread multiplies all rows by its share.
- One row alone is bound by memory: compiled, it is a plain sum of products, which reads the matrix at the memory's
  speed (benchmarks/decode.py).
- A tall matrix is the embedding, as the head. Multiplied piece by piece, a piece's share of the answers stays in the
  cache: up to 1.9 times as fast as all at once (benchmarks/products.py).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gemmule.base.torch_compat import constant_while_compiling

FEW = 64  # rows; from there on MKL does as well
TALL = 4096  # rows of a matrix that is multiplied piece by piece
PIECE = 512  # rows of it, for each thread


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., I] times the transpose of weight [O, I]: [..., O]."""
    learned = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if learned or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.linear(x, weight)
    rows, outputs, threads = x.shape[:-1].numel(), len(weight), _threads()
    if torch.compiler.is_compiling():
        if rows == 1:
            return (weight * x.reshape(-1)).sum(-1).view(*x.shape[:-1], outputs)
    elif rows > FEW // 8 and outputs >= TALL:
        flat = x.reshape(rows, -1)
        return multiply_into(flat, weight, flat.new_empty(rows, outputs)).view(*x.shape[:-1], outputs)
    if not 1 < rows <= FEW or outputs % threads:
        return F.linear(x, weight)
    shares = weight.view(threads, outputs // threads, -1)
    product = torch.bmm(x.reshape(1, rows, -1).expand(threads, -1, -1), shares.mT)  # [threads, rows, O / threads]
    return product.transpose(0, 1).reshape(*x.shape[:-1], outputs)


def multiply_into(x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """`out` [n, O] becomes x [n, I] times the transpose of weight [O, I]. All of one type."""
    if x.device.type != "cpu" or len(weight) < TALL:
        return torch.mm(x, weight.mT, out=out)
    step = PIECE * _threads()
    for first in range(0, len(weight), step):
        torch.mm(x, weight[first : first + step].mT, out=out[:, first : first + step])
    return out


@constant_while_compiling
def _threads() -> int:
    return torch.get_num_threads()
