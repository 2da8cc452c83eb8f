"""PyTorch's internals do what gemmule takes them for: a release of PyTorch that changes one fails here."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gemmule
from gemmule.base import linear, torch_compat

PACKAGE = Path(gemmule.__file__).parent


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_of_softmax_and_tanh_are_those_of_their_formulas(dtype):
    scores = torch.tensor([[0.5, -1.0, 2.0], [3.0, -torch.inf, 0.0]], dtype=dtype)
    gradient = torch.tensor([[1.0, 2.0, -1.0], [0.25, 0.5, -2.0]], dtype=dtype)
    weights = scores.softmax(-1)
    expected = weights.double() * (gradient - (gradient.double() * weights).sum(-1, keepdim=True))
    in_place = gradient.clone()
    result = torch_compat.softmax_backward(in_place, weights, out=in_place)
    assert result.data_ptr() == in_place.data_ptr()
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=0.02 if dtype == torch.bfloat16 else 1e-6)

    output, in_place = scores.tanh(), gradient.clone()
    expected = gradient.double() * (1 - output.double() ** 2)
    result = torch_compat.tanh_backward(in_place, output, out=in_place)
    assert result.data_ptr() == in_place.data_ptr()
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=0.02 if dtype == torch.bfloat16 else 1e-6)


def test_an_update_of_adamw_by_hand():
    """The fourth of one weight: decay first, then the averages by their bias corrections (arXiv 1711.05101)."""
    weight, average, square = torch.tensor([2.0]), torch.tensor([0.3]), torch.tensor([0.05])
    updates = torch.tensor(3.0)
    how = {"betas": (0.9, 0.95), "rate": 0.1, "decay": 0.2}
    torch_compat.fused_adamw([weight], [torch.tensor([-0.5])], [average], [square], [updates], **how)
    m, v = 0.9 * 0.3 + 0.1 * -0.5, 0.95 * 0.05 + 0.05 * 0.25
    moved = 2.0 * (1 - 0.1 * 0.2) - 0.1 * (m / (1 - 0.9**4)) / (math.sqrt(v / (1 - 0.95**4)) + 1e-8)
    assert (float(average), float(square)) == pytest.approx((m, v), rel=1e-6)
    assert float(weight) == pytest.approx(moved, rel=1e-6)
    assert float(updates) == 4.0


class Asking(torch.autograd.Function):
    answers: list[bool] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient):
        Asking.answers.append(torch_compat.graph_is_kept())
        return gradient


def test_a_backward_pass_knows_whether_another_one_follows():
    result = Asking.apply(torch.ones(2, requires_grad=True)).sum()
    Asking.answers.clear()
    result.backward(retain_graph=True)
    result.backward()
    assert Asking.answers == [True, False]


def test_the_compiler_takes_what_is_marked_as_constant():
    def files():
        return len(list(PACKAGE.glob("__main__.py")))

    torch.compiler.reset()
    with pytest.raises(torch_compat.compiler_errors()):  # which can't follow it into the system
        torch.compile(lambda x: x + files(), backend="eager", fullgraph=True)(torch.ones(2))
    files = torch_compat.constant_while_compiling(files)
    assert vars(files) == vars(torch.compiler.assume_constant_result(lambda: 1)) == vars(linear._threads)
    assert torch.compile(lambda x: x + files(), backend="eager", fullgraph=True)(torch.ones(2)).tolist() == [2.0, 2.0]


def test_what_the_compiler_raises():
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    torch.compiler.reset()
    with pytest.raises(torch_compat.compiler_errors(), match="no compiler here"):
        torch.compile(lambda x: x * 2, backend=broken)(torch.ones(2))
    from torch._inductor.exc import InductorError

    assert issubclass(InductorError, torch_compat.compiler_errors())


UNLOADED = """
import torch
from gemmule.base import torch_compat
assert not torch_compat.compiler_is_loaded()
assert torch_compat.compiler_errors() == ()
torch.compile(lambda x: x, backend="eager")(torch.ones(1))
assert torch_compat.compiler_is_loaded()
"""


def test_whether_the_compiler_is_loaded():
    subprocess.run([sys.executable, "-c", UNLOADED], check=True)


def test_the_processes_of_torchrun_share_a_store(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    store = torch_compat.process_store()
    store.set("key", "value")
    assert store.get("key") == b"value"


def test_nothing_else_names_them():
    internal = re.compile(
        r"torch\.(\w+\.)*_(?!_version__)|torch\.ops\.(?!gemmule)|_dynamo|_inductor\b|torch\.optim\.\w+ import"
    )
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "torch_compat.py"]
    lines = [f"{file.relative_to(PACKAGE)}: {line}" for file in files for line in file.read_text("utf-8").splitlines()]
    assert len(files) > 100
    assert [line for line in lines if internal.search(line)] == []
