"""Forward KL on plain logits, against its formula in float64."""

import math

import pytest
import torch

from gemmule.distill.losses import forward_kl
from gemmule.model.head import SparseDistributions


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


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="student logits"):
        forward_kl(torch.zeros(2, 3), torch.zeros(2, 4))
