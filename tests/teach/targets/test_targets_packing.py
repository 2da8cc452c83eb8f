"""Packed blocks against the draws they were made from, and against Python's own whole numbers."""

import math

import numpy as np
import pytest
import torch

from gemmule.teach.targets import packing, sampling
from gemmule.teach.targets.sampling import Scheme


def distributions(rows, vocabulary, sharpness, seed=0):
    random = torch.Generator().manual_seed(seed)
    favour = torch.randn(vocabulary, generator=random) * 2  # some tokens are frequent everywhere
    return torch.softmax(favour + torch.randn(rows, vocabulary, generator=random) * sharpness, -1)


def drawn(probabilities, tau, seed=5):
    return Scheme("threshold", tau).draw(probabilities.log(), seed, np.arange(len(probabilities)))


def fitted(probabilities, scheme, seed=0):
    order = torch.argsort((probabilities / scheme.weight).clamp(max=1).mean(0), descending=True, stable=True).numpy()
    return packing.fit(scheme, order, scheme.draw(probabilities.log(), seed, np.arange(len(probabilities))))


def rows_of(draw):
    """Each row as {id: probability}, None where it was drawn."""
    exact = list(zip(draw.exact_ids.tolist(), draw.exact_probabilities.tolist(), strict=True))
    others = draw.drawn_ids.tolist()
    rows = []
    for first, second in draw.counts.tolist():
        rows.append(dict(exact[:first]) | dict.fromkeys(others[:second]))
        exact, others = exact[first:], others[second:]
    return rows


@pytest.mark.parametrize(
    ("vocabulary", "sharpness", "tau", "fitted_tau"),
    [
        (300, 2.0, 0.05, 0.05),
        (300, 6.0, 0.05, 0.05),  # sure: rows of one token
        (300, 2.0, 1.0, 1.0),  # nothing exact
        (300, 2.0, 1e-5, 1e-5),  # nearly all exact, rows longer than a byte counts
        (70_000, 4.0, 0.02, 0.02),
        (70_000, 0.1, 0.003, 0.5),  # coded with parameters that were fitted to other rows
    ],
)
def test_what_is_decoded_is_what_was_drawn(vocabulary, sharpness, tau, fitted_tau):
    draw = drawn(distributions(40, vocabulary, sharpness), tau)
    other = fitted(distributions(64, vocabulary, sharpness, seed=1), Scheme("threshold", fitted_tau))
    coding = packing.Coding(Scheme("threshold", tau), other.order, other.parameters, other.doubling)
    block = coding.encode(draw, np.arange(40), seed=3)
    decoded = coding.decode(block, 40)
    assert torch.allclose(decoded.entropy, draw.entropy, atol=1e-4)
    step = tau ** (-1 / (2**coding.value_bits - 1))
    for row, expected in enumerate(rows_of(draw)):
        entries = slice(int(decoded.offsets[row]), int(decoded.offsets[row + 1]))
        found = dict(zip(decoded.ids[entries].tolist(), decoded.probabilities[entries].tolist(), strict=True))
        assert found.keys() == expected.keys()
        for token, probability in expected.items():
            if probability is None:
                assert found[token] == pytest.approx(tau)
            else:
                assert probability / step * (1 - 1e-5) < found[token] < probability * step * (1 + 1e-5)


def test_rows_without_tokens_and_no_rows():
    counts = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 0], [0, 0]])
    draw = sampling.Draw(counts, torch.tensor([7]), torch.tensor([0.5]), torch.tensor([9]), torch.zeros(5))
    coding = fitted(distributions(64, 20, 2.0), Scheme("threshold", 0.3))
    decoded = coding.decode(coding.encode(draw, np.arange(5), seed=0), 5)
    assert decoded.offsets.tolist() == [0, 0, 1, 1, 2, 2]
    assert decoded.ids.tolist() == [9, 7]
    assert len(coding.decode(coding.encode(draw[:0], np.arange(0), seed=0), 0)) == 0


def test_values_are_unbiased_and_lie_around_the_probability():
    tau, p = 0.01, np.array([0.01, 0.0123, 0.2, 0.5, 0.987, 1.0])
    uniform = (np.arange(20_000) + 0.5) / 20_000  # every uniform number once: the mean is exact
    coding = packing.Coding(
        Scheme("threshold", tau), np.arange(9), np.zeros((8, 34), np.int64), np.zeros((8, 34), bool)
    )
    assert coding.value_bits == 6
    for probability in p:
        levels = coding._to_levels(np.full(len(uniform), probability), uniform)
        values = tau ** (1 - levels / 63)
        assert values.mean() == pytest.approx(probability, rel=1e-5)
        assert np.ptp(levels) <= 1
        assert levels.min() >= 0
        assert levels.max() <= 63


@pytest.mark.parametrize("tau", [0.003, 0.02, 0.1])
def test_the_stored_mass_is_one_in_the_mean_and_within_a_grid_step(tau):
    """As docs/targets.md says it: what is drawn is within tau, and each value within a step of the grid."""
    probabilities = torch.cat([distributions(1000, 300, sharpness) for sharpness in (1.0, 3.0, 6.0)])
    draw, coding = drawn(probabilities, tau), fitted(probabilities, Scheme("threshold", tau))
    kept = drawn_mass(draw, tau)
    assert (kept - 1).abs().max() <= tau * (1 + 1e-5)
    mass = coding.decode(coding.encode(draw, np.arange(3000), seed=3), 3000).mass
    assert (mass - 1).abs().max() <= tau + math.exp(tau**0.5) - 1
    assert mass.mean() == pytest.approx(1, abs=4 * float(mass.std()) / 3000**0.5)
    assert mass.std() < 0.6 * tau**0.5
    assert (mass - 1).abs().max() > 1.5 * tau  # so rounding is what moves it most


def drawn_mass(draw, tau):
    exact, others = draw.counts.T
    rows = torch.arange(len(draw)).repeat_interleave(exact)
    return torch.zeros(len(draw)).index_add(0, rows, draw.exact_probabilities) + others * tau


def test_fields_and_unary_numbers_are_those_of_python():
    random = np.random.default_rng(0)
    widths = random.integers(0, 25, 500)
    values = np.array([int(random.integers(0, 2**width)) for width in widths])
    packed = packing._pack_fields(values, widths)
    bits = "".join(format(value, f"0{width}b") if width else "" for value, width in zip(values, widths, strict=True))
    assert packed.tobytes() == int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    assert packing._unpack_fields(packed, widths).tolist() == values.tolist()

    numbers = random.geometric(0.2, 300) - 1
    packed = packing._pack_unary(numbers)
    bits = "".join("0" * number + "1" for number in numbers)
    assert packed.tobytes() == int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    more = np.concatenate([packed, np.array([129, 0], np.uint8)])
    found, size = packing._unpack_unary(more, 300)
    assert (found.tolist(), size) == (numbers.tolist(), len(packed))


def test_classes_partition_the_gaps():
    gaps = np.arange(2000)
    for k in (0, 3):
        for doubling in (False, True):
            classes, first, widths = packing._classes(gaps, np.full(2000, k), np.full(2000, doubling))
            sizes = np.bincount(classes)[:-1]  # the last is cut off
            assert sizes.tolist() == [2**k << (c if doubling else 0) for c in range(len(sizes))]
            assert ((gaps - first >= 0) & (gaps - first < 1 << widths)).all()
            assert (np.diff(classes) >= 0).all()


def test_the_code_is_near_the_entropy_of_the_tokens_frequencies():
    tau, rows = 0.03, 4000
    probabilities = distributions(rows, 500, 2.0)
    coding = fitted(probabilities[: rows // 2], Scheme("threshold", tau))
    fresh = probabilities[rows // 2 :]
    draw = drawn(fresh, tau)
    chance = (fresh / tau).clamp(max=1).mean(0).double()  # how often each token is in a row
    entropy = -(torch.special.xlogy(chance, chance) + torch.special.xlogy(1 - chance, 1 - chance)).sum().item()
    kept, entries = draw.counts[:, 0].sum().item(), draw.counts.sum().item()
    others = 8 * 3 * len(fresh) + entries + coding.value_bits * kept  # counts, entropies, flags, values
    spent = 8 * len(coding.encode(draw, np.arange(len(fresh)), seed=0)) - others
    assert spent / len(fresh) < 1.05 * entropy / np.log(2)


@pytest.mark.parametrize("damage", ["cut", "longer", "other rows", "noise"])
def test_a_block_that_is_none_is_refused(damage):
    coding = fitted(distributions(64, 300, 2.0), Scheme("threshold", 0.05))
    block = coding.encode(drawn(distributions(30, 300, 2.0), 0.05), np.arange(30), seed=0)
    rows, spoiled = 30, block
    if damage == "cut":
        spoiled = block[:-30]
    elif damage == "longer":
        spoiled = block + b"\xff"
    elif damage == "other rows":
        rows = 29
    else:
        spoiled = np.random.default_rng(0).integers(0, 256, len(block), np.uint8).tobytes()
    with pytest.raises(ValueError, match="the block"):
        coding.decode(spoiled, rows)
