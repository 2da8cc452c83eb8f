"""Products with a weight matrix, fast for few rows too: a token of each text that is generated, and no more.

The CPU's library (MKL) divides the rows among its threads, so that few of them leave threads idle. Here the matrix is
divided instead: each thread multiplies all rows by its share. One row alone is bound by memory: compiled, it is a
plain sum of products, which reads the matrix at the memory's speed (benchmarks/decode.py).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FEW = 64  # rows; from there on MKL does as well


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., I] times the transpose of weight [O, I]: [..., O]."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.linear(x, weight)
    rows, outputs, threads = x.shape[:-1].numel(), len(weight), _threads()
    if rows == 1 and torch.compiler.is_compiling():
        return (weight * x.reshape(-1)).sum(-1).view(*x.shape[:-1], outputs)
    if not 1 < rows <= FEW or outputs % threads:
        return F.linear(x, weight)
    shares = weight.view(threads, outputs // threads, -1)
    product = torch.bmm(x.reshape(1, rows, -1).expand(threads, -1, -1), shares.mT)  # [threads, rows, O / threads]
    return product.transpose(0, 1).reshape(*x.shape[:-1], outputs)


def _threads() -> int:
    return torch.get_num_threads()


# As torch.compiler.assume_constant_result says it to the compiler, without importing that: it takes more than a second.
_threads._dynamo_marked_constant = True  # type: ignore[attr-defined]
