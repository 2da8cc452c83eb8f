"""What gemmule uses of PyTorch that its documentation does not promise: each function says why nothing public serves.

Nothing else in the package names PyTorch's internals. tests/base/test_base_torch_compat.py holds each one to values: a
release that changes one fails there first. README says which releases were tried.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import Store

Function = TypeVar("Function", bound=Callable[..., object])


def softmax_backward(gradient: Tensor, weights: Tensor, out: Tensor) -> Tensor:
    """`out`: the gradient by the scores, from that by `weights`, their softmax over the last dimension.

    Written out, weights · (gradient - sum(gradient · weights)), it goes through memory four times instead of once.
    Autograd's own would keep the weights. An operator of ATen, older than 2.0. `out` may be `gradient`.
    """
    operator = torch.ops.aten._softmax_backward_data.out
    result: Tensor = operator(gradient, weights, -1, weights.dtype, grad_input=out)
    return result


def tanh_backward(gradient: Tensor, output: Tensor, out: Tensor) -> Tensor:
    """`out`: the gradient by the argument of a tanh, from that by its `output`: gradient · (1 - output²).

    Written out, twice through memory instead of once. An operator of ATen, older than 2.0. `out` may be `gradient`.
    """
    result: Tensor = torch.ops.aten.tanh_backward.grad_input(gradient, output, grad_input=out)
    return result


def fused_adamw(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    averages: Sequence[Tensor],
    squares: Sequence[Tensor],
    updates: Sequence[Tensor],
    *,
    betas: Sequence[float],
    rate: float,
    decay: float,
) -> None:
    """An update of `torch.optim.AdamW(fused=True)`, in place; `updates` float32 scalars: how many there were, then + 1.

    The class imports the whole compiler, more than a second of every start. Its functional form, fused since 2.0.
    """
    from torch.optim.adamw import adamw

    adamw(
        list(weights), list(gradients), list(averages), list(squares), [], list(updates), fused=True, amsgrad=False,
        beta1=betas[0], beta2=betas[1], lr=rate, weight_decay=decay, eps=1e-8, maximize=False,
    )  # fmt: skip


def graph_is_kept() -> bool:
    """In a backward pass: whether there will be another one through the same graph (`retain_graph=True`).

    A `torch.autograd.Function` is not told, and would have to keep what it can give away. Since 2.5.
    """
    kept: bool = torch._C._autograd._get_current_graph_task_keep_graph()
    return kept


def constant_while_compiling(function: Function) -> Function:
    """`torch.compiler.assume_constant_result` (2.1), without importing the compiler, which takes more than a second."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def compiler_is_loaded() -> bool:
    """Whether anything was compiled so far, or at least the compiler imported."""
    return "torch._dynamo" in sys.modules


def compiler_errors() -> tuple[type[Exception], ...]:
    """What the compiler raises where it fails, Inductor (its C++ and Triton) included; nothing while it is not loaded.

    No public class stands for these. Since 2.0, Inductor's since 2.7.
    """
    if not compiler_is_loaded():
        return ()
    import torch._dynamo.exc

    return (torch._dynamo.exc.TorchDynamoException,)


def process_store() -> Store:
    """What the processes that torchrun started write into and read from, by the variables that it gave them.

    `init_process_group` would make one too, but a group with it, which takes all processes and imports more.
    """
    from torch.distributed import rendezvous

    store: Store = next(rendezvous("env://"))[0]
    return store
