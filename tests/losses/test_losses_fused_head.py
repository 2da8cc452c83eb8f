"""The fused head against the plain formulas, its gradients against finite differences, and its memory in a process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from gemmule.base import chunks
from gemmule.losses.fused_head import fused_loss
from gemmule.losses.head import token_losses
from gemmule.losses.logits import capped_logits
from gemmule.losses.loss import LOSSES, TokenLoss
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions

B, T, V, D = 2, 7, 23, 6
N = B * T


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Three chunks of at most 5 tokens, each of blocks of at most 2."""
    monkeypatch.setattr(chunks, "CHUNK", 5 * V)
    monkeypatch.setattr(chunks, "BLOCK", 2 * V)


def tensors(dtype, scale=3.0):
    random = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    hidden, weight = normal(B, T, D), normal(V, D) * scale
    counts = torch.tensor([2, 0, 1, 3, V, 1, 4] * B)
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    ids = torch.randint(V, (int(offsets[-1]),), generator=random)  # some twice in a row
    sparse = SparseDistributions(offsets, ids, normal(len(ids)).abs(), normal(N).abs())
    teacher = DenseTeacher(normal(B, T, 4), normal(V, 4), 10.0)
    other = DenseTeacher(normal(B, T, 3), normal(V, 3), None, bias=normal(V))
    top = teacher.logits().softmax(-1).flatten(0, 1).topk(3)
    known = SparseDistributions(torch.arange(N + 1) * 3, top.indices.flatten(), top.values.flatten(), rest=True)
    tokens = torch.randint(V, (B, T), generator=random)
    targets = {
        "tokens": tokens,
        "probabilities": teacher.logits().softmax(-1).to(dtype),
        "teacher": teacher,
        "uncapped teacher": DenseTeacher(teacher.hidden, teacher.weight, None),
        "teacher with a bias": other,
        "teacher's logits": DenseTeacher(normal(B, T, V), None),
        "ensemble": Mixture(((0.7, teacher), (0.3, other))),
        "sparse": sparse,
        "top k and the rest": known,
        "mixture": ((0.3, tokens), (0.5, sparse), (0.2, teacher)),
    }
    mask = torch.rand(B, T, generator=random) < 0.7
    return hidden.requires_grad_(), weight.requires_grad_(), targets, mask


def plain(hidden, weight, cap, targets, *, mask, temperature=1.0, denominator=None, **settings):
    def flat(target):
        if isinstance(target, tuple):
            return tuple((share, flat(part)) for share, part in target)
        if isinstance(target, DenseTeacher | Mixture):
            return target.flatten()
        return target if isinstance(target, SparseDistributions) else target.flatten(0, 1)

    logits = capped_logits(hidden.flatten(0, 1), weight, cap)
    losses = token_losses(logits, flat(targets), temperature, **settings)[mask.flatten()]
    return losses.sum() / (mask.sum() if denominator is None else denominator)


def value_and_gradients(function, hidden, weight, *arguments, **settings):
    value = function(hidden, weight, *arguments, **settings)
    return value.detach(), *torch.autograd.grad(value * 1.7, (hidden, weight))


def assert_equal_to_plain(cap, targets, hidden, weight, **settings):
    expected = value_and_gradients(plain, hidden, weight, cap, targets, **settings)
    for mine, right in zip(
        value_and_gradients(fused_loss, hidden, weight, cap, targets, **settings), expected, strict=True
    ):
        assert (mine - right).abs().max() <= 1e-5 * right.abs().max()


WHOLE = ("probabilities", "teacher", "uncapped teacher", "teacher with a bias", "teacher's logits", "ensemble")
PARTIAL = ("sparse", "top k and the rest", "mixture")
FORMS = ("tokens", *WHOLE, *PARTIAL)
# Every registered loss against every target that it takes: a new one comes here by itself.
PAIRS = [
    (name, form)
    for name, loss in LOSSES.items()
    if isinstance(loss, TokenLoss)
    for form in (*WHOLE, *(PARTIAL if loss.samples else ()))
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cap", [None, 5.0, 30.0, 200.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_equal_to_the_plain_formulas(form, cap, temperature):
    hidden, weight, targets, mask = tensors(torch.float32)
    assert_equal_to_plain(cap, targets[form], hidden, weight, mask=mask, temperature=temperature, denominator=11)
    assert_equal_to_plain(cap, targets[form], hidden, weight, mask=mask, temperature=temperature)


@pytest.mark.parametrize("cap", [None, 30.0])
@pytest.mark.parametrize(("divergence", "form"), PAIRS)
def test_every_loss_equals_its_plain_formula(divergence, form, cap):
    hidden, weight, targets, mask = tensors(torch.float32)
    assert_equal_to_plain(cap, targets[form], hidden, weight, mask=mask, temperature=1.5, divergence=divergence)


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("beta", [0, 1e-6, 0.3, 1])
def test_the_jsd_equals_its_plain_formula_at_every_beta(form, beta):
    hidden, weight, targets, mask = tensors(torch.float32)
    settings = {"mask": mask, "temperature": 1.5, "divergence": "jsd", "beta": beta}
    assert_equal_to_plain(30.0, targets[form], hidden, weight, **settings)


@pytest.mark.parametrize(("divergence", "form"), [("forward_kl", "tokens"), *PAIRS])
def test_gradients_by_finite_differences(form, divergence):
    hidden, weight, targets, mask = tensors(torch.float64, scale=0.5)
    settings = {"mask": mask, "temperature": 1.3, "divergence": divergence}
    assert torch.autograd.gradcheck(lambda h, w: fused_loss(h, w, 3.0, targets[form], **settings), (hidden, weight))


def test_scores_far_from_zero_neither_overflow_nor_vanish():
    hidden, weight, targets, mask = tensors(torch.float32, scale=300.0)
    for cap in (None, 5000.0):
        assert_equal_to_plain(cap, targets["tokens"], hidden, weight, mask=mask)


def test_without_gradients_the_value_is_the_same():
    hidden, weight, targets, mask = tensors(torch.float32)
    value = fused_loss(hidden, weight, 30.0, targets["tokens"], mask=mask)
    with torch.no_grad():
        assert torch.equal(fused_loss(hidden, weight, 30.0, targets["tokens"], mask=mask), value)
    frozen = fused_loss(hidden, weight.detach(), 30.0, targets["tokens"], mask=mask)
    assert torch.equal(torch.autograd.grad(frozen, hidden)[0], torch.autograd.grad(value, hidden)[0])


def test_the_denominator_is_the_number_of_learned_positions():
    hidden, weight, targets, mask = tensors(torch.float32)
    nothing = torch.zeros_like(mask)
    assert fused_loss(hidden, weight, 30.0, targets["tokens"], mask=nothing).item() == 0
    everywhere = fused_loss(hidden, weight, 30.0, targets["tokens"])
    assert everywhere.item() == pytest.approx(
        plain(hidden, weight, 30.0, targets["tokens"], mask=torch.ones_like(mask)).item(), rel=1e-6
    )


def test_masked_positions_get_no_gradient():
    hidden, weight, targets, mask = tensors(torch.float32)
    fused_loss(hidden, weight, 30.0, targets["teacher"], mask=mask).backward()
    assert torch.equal(hidden.grad.abs().sum(-1) > 0, mask)


def test_bfloat16_is_computed_in_float32():
    hidden, weight, targets, mask = tensors(torch.float32)
    narrow = [tensor.detach().bfloat16().requires_grad_() for tensor in (hidden, weight)]
    value, *gradients = value_and_gradients(fused_loss, *narrow, 30.0, targets["tokens"], mask=mask)
    wide = [tensor.detach().float().requires_grad_() for tensor in narrow]
    right, *expected = value_and_gradients(plain, *wide, 30.0, targets["tokens"], mask=mask)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(right.item(), rel=2**-7)
    for mine, exact in zip(gradients, expected, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine.float() - exact).norm() <= 2**-6 * exact.norm()


def test_a_kept_graph_can_be_differentiated_again():
    hidden, weight, targets, mask = tensors(torch.float32)
    value = fused_loss(hidden, weight, 30.0, targets["tokens"], mask=mask)
    first = torch.autograd.grad(value, (hidden, weight), torch.tensor(3.0), retain_graph=True)
    second = torch.autograd.grad(value, (hidden, weight))
    for tripled, single in zip(first, second, strict=True):
        torch.testing.assert_close(tripled, 3 * single)


def test_what_cannot_be_learned_is_refused():
    hidden, weight, targets, _ = tensors(torch.float32)
    with pytest.raises(ValueError, match="reverse_kl needs whole distributions"):
        fused_loss(hidden, weight, 30.0, targets["sparse"], divergence="reverse_kl")
    with pytest.raises(ValueError, match="targets of 7 positions for logits of 14"):
        fused_loss(hidden, weight, 30.0, targets["tokens"][:1])
    with pytest.raises(ValueError, match="beta = 2"):
        fused_loss(hidden, weight, 30.0, targets["teacher"], divergence="jsd", beta=2)
    with pytest.raises(ValueError, match="divergence 'kl': must be one of alm, forward_kl, jsd, reverse_kl"):
        fused_loss(hidden, weight, 30.0, targets["teacher"], divergence="kl")
    with pytest.raises(TypeError, match="no loss has a parameter 'tau'"):
        fused_loss(hidden, weight, 30.0, targets["tokens"], tau=2)
    fused_loss(hidden, weight, 30.0, targets["tokens"], beta=0.5)  # the JSD has it


MEASURE = """
import resource, sys
import torch
from gemmule.losses.fused_head import fused_loss
from gemmule.losses.targets import DenseTeacher
torch.set_num_threads(1)
N, V, D = int(sys.argv[2]), 256_000, 8
hidden, weight = torch.randn(1, N, D).requires_grad_(), torch.randn(V, D).requires_grad_()
teacher = DenseTeacher(torch.randn(1, N, D), torch.randn(V, D), 30.0)
tokens = torch.randint(V, (1, N))
hidden.grad, weight.grad = torch.ones_like(hidden), torch.ones_like(weight)  # the gradients' own memory
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fused_loss(hidden, weight, 30.0, tokens if sys.argv[1] == "tokens" else teacher).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(("target", "tokens"), [("tokens", 1024), ("teacher", 512)])
def test_memory_of_a_large_vocabulary(target, tokens):
    """The logits of 1,024 tokens would be 1 GB, those of 512 tokens 0.5 GB and the teacher's as much."""
    command = [sys.executable, "-c", MEASURE, target, str(tokens)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(run.stdout) <= 210e6
