"""What is seen a chunk of tokens at a time against the plain formulas over all of them, in float64."""

import pytest
import torch

from gemmule.base import chunks
from gemmule.base.errors import RequestError
from gemmule.evaluate.looking import Looking, argmax, likeliest
from gemmule.losses.head import token_losses
from gemmule.losses.targets import DenseTeacher, Mixture, SparseDistributions

N, V, CPU = 23, 700, torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Chunks of 5 rows, blocks of 2: neither divides the other, or the tokens."""
    monkeypatch.setattr(chunks, "CHUNK", 5 * V + 3)
    monkeypatch.setattr(chunks, "BLOCK", 2 * V)


def random(seed: int, cap: float | None = 30.0, bias: bool = False) -> DenseTeacher:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(size, 16, generator=generator) * 2 for size in (N, V))
    return DenseTeacher(hidden, weight, cap, torch.randn(V, generator=generator) if bias else None)


def whole(expected: DenseTeacher | Mixture) -> torch.Tensor:
    """Logits in float64."""
    if isinstance(expected, Mixture):
        return sum(share * torch.softmax(whole(member), -1) for share, member in expected.members).log()
    if expected.weight is None:
        return expected.hidden.double()
    raw = expected.hidden.double() @ expected.weight.double().T
    raw = raw if expected.bias is None else raw + expected.bias.double()
    return raw if expected.cap is None else expected.cap * torch.tanh(raw / expected.cap)


TEACHERS = {
    "of another width": random(1),
    "without a cap, with a bias": random(2, None, bias=True),
    "of logits": DenseTeacher(whole(random(3)).float(), None),
    "an ensemble": Mixture(((0.7, random(4)), (0.3, random(5, None)))),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_chunk_at_a_time_is_the_whole(name):
    model, teacher = random(0), TEACHERS[name]
    targets = torch.arange(N) * 7 % V
    q, p = (torch.log_softmax(whole(side), -1) for side in (model, teacher))
    targets[:4] = q.argmax(-1)[:4]
    looks = Looking(V, CPU).look(model, targets, teacher)
    assert looks.loss.double() == pytest.approx(-q[torch.arange(N), targets], rel=1e-5, abs=1e-5)
    assert looks.confidence.double() == pytest.approx(q.amax(-1).exp(), rel=1e-5)
    assert looks.hit.tolist() == (q.argmax(-1) == targets).tolist()
    assert looks.hit[:4].all()
    assert looks.divergence.double() == pytest.approx((p.exp() * (p - q)).sum(-1), rel=1e-4, abs=1e-5)
    assert looks.teacher_entropy.double() == pytest.approx(-(p.exp() * p).sum(-1), rel=1e-4, abs=1e-5)
    assert looks.same.tolist() == (q.argmax(-1) == p.argmax(-1)).tolist()
    alone = Looking(V, CPU).look(model, targets)
    assert torch.equal(alone.loss, looks.loss)
    assert alone.divergence is alone.teacher_entropy is alone.same is None


def test_beside_itself_there_is_no_divergence():
    looks = Looking(V, CPU).look(random(0), torch.zeros(N, dtype=torch.int64), random(0))
    assert looks.divergence.abs().max() == 0
    assert looks.same.all()


def test_a_token_that_a_teacher_rules_out_costs_nothing():
    logits = torch.zeros(N, V)
    logits[:, 10:] = -torch.inf
    looks = Looking(V, CPU).look(random(0), torch.zeros(N, dtype=torch.int64), DenseTeacher(logits, None))
    assert looks.teacher_entropy == pytest.approx(torch.full((N,), 10.0).log())
    assert looks.divergence.isfinite().all()


def test_beside_a_teacher_that_gives_its_top_k():
    offsets = torch.arange(N + 1) * 3
    ids = torch.stack([torch.arange(N), torch.arange(N) + 30, torch.arange(N) + 60], 1).flatten()
    top = SparseDistributions(offsets, ids, torch.tensor([0.2, 0.5, 0.1]).repeat(N), rest=True)
    targets, model = torch.arange(N), random(0)
    looks = Looking(V, CPU).look(model, targets, top)
    logits = whole(model).float()
    assert looks.divergence == pytest.approx(token_losses(logits, top), rel=1e-4)
    entropy = -sum(p * torch.tensor(p).log() for p in (0.2, 0.5, 0.1, 0.2))
    assert looks.teacher_entropy == pytest.approx(entropy.expand(N))
    assert likeliest(top).tolist() == [number + 30 for number in range(N)]
    assert looks.same.tolist() == (logits.argmax(-1) == torch.arange(N) + 30).tolist()
    with pytest.raises(RequestError, match="top k"):
        Looking(V, CPU).look(top, targets)


@pytest.mark.parametrize("columns", [1, 255, 256, 257, 511, 512, 700, 2048])
def test_the_place_of_the_largest(columns):
    x = torch.randn(50, columns, generator=torch.Generator().manual_seed(columns))
    assert torch.equal(argmax(x), x.argmax(-1))
    x = (x * 2).round()  # many are equal: the first one counts
    first = [row.index(max(row)) for row in x.tolist()]
    assert argmax(x).tolist() == first
