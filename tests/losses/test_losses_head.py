"""Losses against their closed forms, written out in float64 and NumPy: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gemmule.losses.head import token_losses
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions

N, V = 6, 9
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(N, V)) * 3
HARD = np.array([0, 8, 3, 3, 1, 7])
TEACHER = RANDOM.dirichlet(np.full(V, 0.3), size=N)
TEACHER[1] = np.eye(V)[4]  # sure: 0 log 0 must be 0
# Six rows of 2, 0, 1, 3, 9 and 1 entries, whose mass is not 1.
COUNTS = [2, 0, 1, 3, 9, 1]
IDS = [3, 1, 8, 0, 4, 5, *range(9), 2]
PROBABILITIES = RANDOM.uniform(0.05, 0.5, size=len(IDS)).astype(np.float32)
ENTROPY = RANDOM.uniform(0, 2, size=N).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sparse(entropy=True):
    return SparseDistributions(
        offsets=torch.tensor([0, *np.cumsum(COUNTS)]),
        ids=torch.tensor(IDS),
        probabilities=torch.tensor(PROBABILITIES),
        entropy=torch.tensor(ENTROPY) if entropy else None,
    )


def sparse_as_dense():
    dense, entry = np.zeros((N, V)), 0
    for row, count in enumerate(COUNTS):
        for _ in range(count):
            dense[row, IDS[entry]] += PROBABILITIES[entry]
            entry += 1
    return dense


def closed_form(target, entropy, temperature):
    """Cross-entropy of p, whatever its mass, less an entropy; and its gradient by the logits."""
    z = LOGITS / temperature
    mass = target.sum(-1)
    value = mass * np.log(np.exp(z).sum(-1)) - (target * z).sum(-1) - entropy
    gradient = (mass[:, None] * softmax(z) - target) / temperature
    return value * temperature**2, gradient * temperature**2


def teacher_entropy():
    return np.array([-sum(p * np.log(p) for p in row if p > 0) for row in TEACHER])


def computed(targets, temperature, **arguments):
    logits = torch.tensor(LOGITS, requires_grad=True)
    value = token_losses(logits, targets, temperature)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.detach().numpy(), gradient.numpy()


def assert_same(ours, expected):
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_hard_targets_whatever_the_temperature(temperature):
    assert_same(computed(torch.tensor(HARD), temperature), closed_form(np.eye(V)[HARD], 0, 1.0))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_dense_targets(temperature):
    value, gradient = computed(torch.tensor(TEACHER), temperature)
    assert_same((value, gradient), closed_form(TEACHER, teacher_entropy(), temperature))
    assert (value > 0).all()


def test_dense_targets_equal_to_the_student_cost_nothing():
    value, gradient = computed(torch.tensor(softmax(LOGITS / 2)), 2.0)
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


def test_dense_targets_in_lower_precision_than_the_logits():
    targets = torch.tensor(TEACHER).to(torch.bfloat16)
    value, _ = computed(targets, 1.0)
    np.testing.assert_allclose(value, closed_form(TEACHER, teacher_entropy(), 1.0)[0], rtol=0.05)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("entropy", [True, False])
def test_sparse_targets(temperature, entropy):
    expected = closed_form(sparse_as_dense(), ENTROPY if entropy else 0, temperature)
    assert_same(computed(sparse(entropy), temperature), expected)


def test_an_id_twice_in_a_row_counts_twice():
    twice = SparseDistributions(torch.tensor([0, 2]), torch.tensor([4, 4]), torch.tensor([0.25, 0.5]))
    once = SparseDistributions(torch.tensor([0, 1]), torch.tensor([4]), torch.tensor([0.75]))
    logits = torch.tensor(LOGITS[:1])
    torch.testing.assert_close(token_losses(logits, twice), token_losses(logits, once))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_mixtures_are_weighted_sums(temperature):
    mixture = ((0.25, torch.tensor(HARD)), (0.5, torch.tensor(TEACHER)), (2.0, sparse()))
    parts = [
        closed_form(np.eye(V)[HARD], 0, 1.0),
        closed_form(TEACHER, teacher_entropy(), temperature),
        closed_form(sparse_as_dense(), ENTROPY, temperature),
    ]
    expected = [0.25 * hard + 0.5 * dense + 2.0 * few for hard, dense, few in zip(*parts, strict=True)]
    assert_same(computed(mixture, temperature), expected)


@pytest.mark.parametrize(
    "targets", [torch.tensor(HARD[:5]), torch.tensor(TEACHER[:5]), sparse()[:5]], ids=["hard", "dense", "sparse"]
)
def test_targets_of_other_lengths_are_refused(targets):
    with pytest.raises(ValueError, match="5 positions for logits of 6"):
        token_losses(torch.tensor(LOGITS), targets)


@pytest.mark.parametrize("targets", [torch.tensor([-100] * N), SparseDistributions(
    torch.arange(N + 1), torch.full((N,), V), torch.ones(N))], ids=["-100", "an id past the vocabulary"])  # fmt: skip
def test_ids_outside_the_vocabulary_are_refused(targets):
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        token_losses(torch.tensor(LOGITS), targets)


@pytest.mark.parametrize("form", ["hard", "dense", "sparse", "mixture"])
@pytest.mark.parametrize("size", [1, 2])
def test_parts_of_a_batch_add_up_to_the_whole(make_model, form, size):
    """verl#7200, TRL PR 6006: loss averaged per micro-batch. Four windows with 1 to 60 learned tokens."""
    model = make_model(vocabulary_size=V).initialise(0)  # at scores of 50, rounding alone is more than 1e-6
    generator = torch.Generator().manual_seed(0)
    B, T = 4, 60
    ids, hard = (torch.randint(V, (B, T), generator=generator) for _ in range(2))
    mask = torch.arange(T) < torch.tensor([[1], [60], [13], [26]])
    dense = torch.randn(B, T, V, generator=generator).softmax(-1)
    counts = torch.randint(0, 4, (B * T,), generator=generator)
    few = SparseDistributions(
        torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
        torch.randint(V, (int(counts.sum()),), generator=generator),
        torch.rand(int(counts.sum()), generator=generator),
        torch.rand(B * T, generator=generator),
    )
    targets = {"hard": hard, "dense": dense, "sparse": few, "mixture": ((0.3, hard), (0.7, few))}[form]

    def part(targets, start, stop):
        if isinstance(targets, tuple):
            return tuple((weight, part(inner, start, stop)) for weight, inner in targets)
        rows = slice(start, stop) if isinstance(targets, torch.Tensor) else slice(start * T, stop * T)
        return targets[rows]

    def gradients(step):
        model.zero_grad()
        total = 0.0
        for start in range(0, B, step):
            stop = start + step
            value = model(
                ids[start:stop], part(targets, start, stop), mask=mask[start:stop], temperature=1.5, denominator=100
            )
            value.backward()
            total += value.item()
        return total, {name: weight.grad.clone() for name, weight in model.named_parameters()}

    whole, expected = gradients(B)
    parts, added = gradients(size)
    assert parts == pytest.approx(whole, rel=1e-6)
    assert model(ids, targets, mask=mask, temperature=1.5).item() == pytest.approx(whole, rel=1e-6)  # 100 learned
    for name, gradient in expected.items():
        error = (added[name] - gradient).abs().max() / gradient.abs().max()
        assert error <= 1e-6, name


def top_two(entropy=None):
    """verl#7856: of the teacher's (0.5, 0.3, 0.1, 0.1) the first two are known."""
    probabilities = torch.tensor([0.5, 0.3], dtype=torch.float64)
    return SparseDistributions(torch.tensor([0, 2]), torch.tensor([0, 1]), probabilities, entropy, rest=True)


def test_the_mass_outside_the_top_k_is_one_bucket():
    logits = torch.tensor([[0.6, 0.35, 0.025, 0.025]], dtype=torch.float64).log().requires_grad_()
    losses = token_losses(logits, top_two())
    assert losses.item() == pytest.approx(0.1398, abs=1e-4)  # the bare two: -0.1374; renormalised: 0.0001
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    q, p = logits.detach().exp()[0], torch.tensor([0.5, 0.3, 0.1, 0.1])  # the bucket splits as the student's does
    assert torch.allclose(gradient[0], q - p, atol=1e-7)
    assert gradient.abs().max() > 0.05
    same = token_losses(torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log(), top_two())
    assert same.item() == pytest.approx(0, abs=1e-6)  # whatever lies in the bucket


def test_a_student_sure_of_the_top_k_has_a_finite_loss():
    logits = torch.tensor([[200.0, 199.0, 0.0, 0.0]])
    loss = token_losses(logits, top_two()).item()
    assert 0.2 * 80 < loss < 0.2 * 200
    empty = SparseDistributions(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64), torch.zeros(0), rest=True)
    assert token_losses(logits, empty).item() == pytest.approx(0, abs=1e-6)  # nothing known, nothing to learn


def test_an_ensemble_is_the_mixture_of_probabilities_softened_as_one():
    members = tuple((share, DenseTeacher(torch.tensor(LOGITS * share), None)) for share in (0.7, 0.3))
    p = 0.7 * softmax(LOGITS * 0.7) + 0.3 * softmax(LOGITS * 0.3)
    soft = p ** (1 / 2) / (p ** (1 / 2)).sum(-1, keepdims=True)
    q = softmax(RANDOM.permuted(LOGITS) / 2)
    losses = token_losses(torch.tensor(np.log(q) * 2).float(), Mixture(members), temperature=2.0)
    np.testing.assert_allclose(losses, 4 * (soft * np.log(soft / q)).sum(-1), rtol=1e-4, atol=1e-5)
