"""The losses' functions on plain logits, against their formulas in float64; and how a loss is found by its name."""

import math
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from gemmule import losses
from gemmule.losses import forward_kl, jsd, next_token, reverse_kl
from gemmule.losses.loss import LOSSES, TokenLoss
from gemmule.losses.targets import SparseDistributions
from gemmule.recipe import Distill, schema


def test_forward_kl_by_hand():
    student = torch.tensor([[0.0, 0.0]])
    teacher = torch.tensor([[math.log(3.0), 0.0]])  # probabilities 3/4 and 1/4
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert forward_kl(student, teacher).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_forward_kl_and_its_gradient(temperature):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 5, 11, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])
    student.requires_grad_()
    p = torch.softmax(teacher / temperature, -1)
    q = torch.log_softmax(student / temperature, -1)
    expected = ((p * (p.log() - q)).sum(-1) * temperature**2)[mask].mean()
    (gradient,) = torch.autograd.grad(expected, student)

    single = student.detach().float().requires_grad_()
    loss = forward_kl(single, teacher.float(), temperature=temperature, mask=mask)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(single.grad.double(), gradient, atol=1e-6)
    assert not single.grad[~mask].any()


def pair():
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(4, 9, generator=generator, dtype=torch.float64) * 2 for _ in range(2))


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_reverse_kl_and_jsd_with_their_gradients(temperature, beta):
    student, teacher = pair()
    student.requires_grad_()
    p, q = torch.softmax(teacher / temperature, -1), torch.softmax(student / temperature, -1)
    m = beta * p + (1 - beta) * q
    wanted = {
        reverse_kl: kl(q, p).mean() * temperature**2,
        jsd: (beta * kl(p, m) + (1 - beta) * kl(q, m)).mean() * temperature**2,
    }
    for loss, expected in wanted.items():
        (gradient,) = torch.autograd.grad(expected, student, retain_graph=True)
        single = student.detach().float().requires_grad_()
        more = {"beta": beta} if loss is jsd else {}
        value = loss(single, teacher.float(), temperature=temperature, **more)
        value.backward()
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        assert torch.allclose(single.grad.double(), gradient, atol=1e-6)


@pytest.mark.parametrize(
    ("beta", "end"), [(0, forward_kl), (1e-6, forward_kl), (1 - 1e-6, reverse_kl), (1, reverse_kl)]
)
def test_jsd_at_its_ends_is_a_kl_and_never_silently_nothing(beta, end):
    """verl-recipe#151, TRL PR 3043: with beta 1 the loss was 0, and nothing was learned."""
    student, teacher = pair()
    expected = kl(torch.softmax(teacher, -1), torch.softmax(student, -1)) if end is forward_kl else kl(
        torch.softmax(student, -1), torch.softmax(teacher, -1)
    )  # fmt: skip
    assert expected.mean() > 1
    assert jsd(student.float(), teacher.float(), beta=beta).item() == pytest.approx(expected.mean().item(), rel=1e-5)
    # JSD / beta, or JSD / (1 - beta), does go there
    p, q = torch.softmax(teacher, -1), torch.softmax(student, -1)
    near = 1e-5 if end is forward_kl else 1 - 1e-5
    m = near * p + (1 - near) * q
    scaled = (near * kl(p, m) + (1 - near) * kl(q, m)) / min(near, 1 - near)
    assert scaled.mean().item() == pytest.approx(expected.mean().item(), rel=0.02)


def test_reverse_kl_of_logits_far_apart():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -200.0]])  # p underflows to 0
    expected = 0.5 * (math.log(0.5) - 0) + 0.5 * (math.log(0.5) + 200)
    assert reverse_kl(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_sparse_targets_that_hold_everything_equal_the_dense_ones():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 9, generator=generator) for _ in range(2))
    p = torch.softmax(teacher, -1)
    sparse = SparseDistributions(
        offsets=torch.arange(7) * 9,
        ids=torch.arange(9).repeat(6),
        probabilities=p.flatten(),
        entropy=-(p * p.log()).sum(-1),
    )
    assert forward_kl(student, sparse).item() == pytest.approx(forward_kl(student, teacher).item(), rel=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="student logits"):
        forward_kl(torch.zeros(2, 3), torch.zeros(2, 4))
    three = SparseDistributions(torch.arange(4), torch.zeros(3, dtype=torch.int64), torch.ones(3))
    with pytest.raises(ValueError, match="targets of 3 positions for logits of 2"):
        forward_kl(torch.zeros(2, 3), three)
    with pytest.raises(ValueError, match="reverse_kl needs whole distributions"):
        reverse_kl(torch.zeros(3, 3), three)


def test_the_next_token_loss_is_the_cross_entropy():
    logits, ids = torch.randn(2, 5, 7, requires_grad=True), torch.randint(7, (2, 5))
    mask = torch.arange(10).view(2, 5) % 3 > 0
    expected = torch.nn.functional.cross_entropy(logits[mask], ids[mask])
    loss = next_token(logits, ids, mask=mask)
    torch.testing.assert_close(loss, expected)
    for own, right in zip(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits), strict=True):
        torch.testing.assert_close(own, right)


def test_a_recipes_losses_are_the_files():
    """Each with its label; and stored samples serve those of which the loss itself says so."""
    files = {path.stem for path in Path(losses.__file__).parent.glob("*.py") if "\nLOSS = " in path.read_text()}
    assert set(LOSSES) == files == set(get_args(Distill.model_fields["loss"].annotation)) == set(schema.LOSSES)
    for name, loss in LOSSES.items():
        assert loss.name == name
        assert set(loss.parameters) <= set(Distill.model_fields)
        assert Distill(loss=name).takes_samples is (isinstance(loss, TokenLoss) and loss.samples)


IMPORTED_FIRST = """
import importlib, os, sys, torch
for name in sys.argv[1:]:
    if os.fork() == 0:  # each from the beginning, but for torch
        import gemmule
        importlib.import_module(name)
        import gemmule.losses.forward_kl, gemmule.losses.jsd
        from gemmule.losses.reverse_kl import LOSS
        x, y = torch.zeros(2, 3), torch.ones(2, 3)
        for loss in (gemmule.losses.forward_kl, gemmule.losses.reverse_kl, gemmule.losses.jsd):
            assert loss(x, y).item() == 0
        assert gemmule.losses.next_token(x, torch.zeros(2, dtype=torch.int64)).item() > 1
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


def test_functions_are_callable_whatever_was_imported_first():
    """Python binds a submodule to its name in the package when it first imports it."""
    names = ("", ".forward_kl", ".jsd", ".next_token", ".fused_head", ".targets")
    modules = [f"gemmule.losses{name}" for name in names]
    subprocess.run([sys.executable, "-c", IMPORTED_FIRST, *modules], check=True)
