"""The file format: read by a program that follows docs/targets.md, and unbiased through it, token by token."""

import itertools
import json
import math
import zlib

import numpy as np
import pytest
import torch

from gemmule.losses.targets import DenseTeacher
from gemmule.teach.targets.parts import Parts
from gemmule.teach.targets.sampling import Scheme
from gemmule.teach.targets.solving import coding_of, sample
from gemmule.teach.targets.store import TargetStore
from gemmule.tokenize.shards import write_shards
from gemmule.tokenize.windows import Windows

VOCABULARY, LENGTH = 400, 64


class Teacher:
    """Expects after token i what row i % 4 of a table says: 4 distributions, over and over."""

    device = torch.device("cpu")
    vocabulary_size = VOCABULARY

    def __init__(self, sharpness):
        random = torch.Generator().manual_seed(0)
        self.weight = torch.randn(VOCABULARY, 4, generator=random) * torch.tensor(sharpness)
        self.distributions = torch.softmax(self.weight.T, -1).double()  # [4, V]

    def expect(self, ids, documents=None):
        return DenseTeacher(torch.eye(4)[ids.flatten() % 4], self.weight, None)


class Words:
    vocabulary_size, eos_id, content_hash = VOCABULARY, 3, ""

    def encode_batch(self, texts):
        return [[int(word) for word in text.split()] for text in texts]


def write(folder, scheme, tokens, sharpness=(0.5, 1.5, 3.0, 6.0), rest="bucket"):
    """Targets of a stream whose tokens are 0 1 2 3 0 1 2 3 ...; position t is of distribution (t - 1) % 4."""
    shards = write_shards([" ".join(str(t % 4) for t in range(tokens - 1))], Words(), folder / "tokens")
    windows, teacher = Windows(shards, LENGTH, 3, 3), Teacher(sharpness)
    parts = Parts(folder / "parts", windows, {})
    parts.prepare(coding_of(scheme, sample(teacher, windows)), 1.0, rest)
    parts.teach(teacher, parts.missing(), seed=7)
    (folder / "targets").mkdir()
    parts.merge(folder / "targets")
    return folder / "targets", teacher


def take(bits, widths):
    ends = np.cumsum([0, *widths]).tolist()
    fields = [int(bits[start:end] or "0", 2) for start, end in itertools.pairwise(ends)]
    return fields, bits[-(-ends[-1] // 8) * 8 :]


def read(folder):
    """Every row of a folder as ({id: weight}, entropy): written from docs/targets.md alone."""
    info = json.loads((folder / "info.json").read_text())
    order = np.fromfile(folder / "order.bin", "<u2" if info["vocabulary_size"] <= 65536 else "<u4").tolist()
    index = np.fromfile(folder / "index.bin", [("end", "<u8"), ("crc", "<u4")])
    data, w, b = (folder / "blocks.bin").read_bytes(), info["weight"], info["value_bits"]
    for number, end in enumerate(index["end"].tolist()):
        block = data[index["end"][number - 1] if number else 0 : end]
        assert zlib.crc32(block) == index["crc"][number]
        rows = min(256, info["positions"] - 256 * number)
        size = info["count_bytes"]
        counts = [int.from_bytes(block[size * row : size * (row + 1)], "little") for row in range(rows)]
        block = block[size * rows :]
        entropies = [int.from_bytes(block[2 * row : 2 * row + 2], "little") for row in range(rows)]
        bits = "".join(f"{byte:08b}" for byte in block[2 * rows :])
        flags, bits = take(bits, [1] * sum(counts))
        levels, bits = take(bits, [b] * sum(flags))
        levels = iter(levels)
        contexts = [(8 * j // n, 2 * (n.bit_length() - 1) + (n > 1 and n >> (n.bit_length() - 2) & 1))
              for n in counts for j in range(n)]  # fmt: skip
        classes = [len(zeros) for zeros in bits.split("1")[: sum(counts)]]
        bits = bits[-(-(sum(classes) + len(classes)) // 8) * 8 :]
        ks = [info["parameters"][eighth][length] for eighth, length in contexts]
        twice = [info["doubling"][eighth][length] for eighth, length in contexts]
        places, bits = take(bits, [k + c * e for k, c, e in zip(ks, classes, twice, strict=True)])
        assert not bits
        gaps = [
            (((1 << c) - 1 if e else c) << k) + place for k, c, e, place in zip(ks, classes, twice, places, strict=True)
        ]
        tokens = zip(flags, gaps, strict=True)
        for count, entropy in zip(counts, entropies, strict=True):
            row, rank = {}, -1
            for _ in range(count):
                flag, gap = next(tokens)
                rank += 1 + gap
                level = next(levels) if flag else None
                value = w if level is None else level * w if info["kind"] == "rs-kd" else w ** (1 - level / (2**b - 1))
                row[order[rank]] = value
            yield row, entropy / 65535 * math.log(info["vocabulary_size"])


@pytest.mark.parametrize(
    "scheme", [Scheme("threshold", 0.04), Scheme("threshold", 1.0), Scheme("threshold", 1 / 300), Scheme("rs-kd", 9),
               Scheme("rs-kd", 300), Scheme("top-k", 20)], ids=str
)  # fmt: skip
def test_another_program_reads_the_same(tmp_path, scheme):
    folder, _ = write(tmp_path, scheme, 700)
    store = TargetStore(folder)[:]
    rows = list(read(folder))
    assert len(rows) == len(store) == 700
    for number, (row, entropy) in enumerate(rows):
        entries = slice(int(store.offsets[number]), int(store.offsets[number + 1]))
        assert store.ids[entries].tolist() == list(row)
        assert store.probabilities[entries].tolist() == pytest.approx(list(row.values()), rel=1e-5)
        if scheme.kind != "top-k":  # whose entropy is that of the k and the rest
            assert float(store.entropy[number]) == pytest.approx(entropy, abs=1e-5)


@pytest.mark.parametrize("scheme", [Scheme("threshold", 0.1), Scheme("threshold", 0.01), Scheme("rs-kd", 8)], ids=str)
def test_the_mean_of_two_thousand_draws_is_the_distribution_token_by_token(tmp_path, scheme):
    draws = 2000
    folder, teacher = write(tmp_path, scheme, 4 * draws)
    store = TargetStore(folder)[:]
    which = (torch.arange(4 * draws) - 1) % 4
    which[::LENGTH] = 3  # after <bos>
    weights = torch.zeros(4 * draws, VOCABULARY, dtype=torch.float64)
    weights[store.rows, store.ids] = store.probabilities.double()
    smallest = []
    for number, p in enumerate(teacher.distributions):
        drawn = weights[which == number]
        mean, truth = drawn.mean(0), p
        # An entry is 0 or the weight w, or p rounded to within a step: a variance of p w at most, p² / 50 of rounding.
        deviation = (truth * scheme.weight + truth.square() / 50).sqrt() / len(drawn) ** 0.5
        chance = truth * len(drawn) / scheme.weight  # of how many times it is expected among the draws
        normal = chance > 10  # where the mean is about normal: 1,600 tokens, so none beyond 5.5 deviations
        assert ((mean - truth).abs() / deviation)[normal].max() < 5.5
        rare = (drawn[:, ~normal] > 0).sum(0)  # the others are Poisson: bounded one by one, and in all
        assert (rare <= chance[~normal] + 6 * chance[~normal].sqrt() + 6).all()
        total = chance[~normal].sum()
        assert (rare.sum() - total).abs() < 5 * total.sqrt() + 1e-9
        smallest.append(float(truth[rare_ids(normal, rare)].min()) if rare.sum() else 1.0)
    assert min(smallest) < 1e-5  # tokens that nobody would keep were drawn all the same


def rare_ids(normal, rare):
    return (~normal).nonzero()[:, 0][rare > 0]


@pytest.mark.parametrize("rest", ["bucket", "dropped", "renormalised"])
def test_the_rest_of_a_top_k(tmp_path, rest):
    folder, teacher = write(tmp_path, Scheme("top-k", 20), 300, rest=rest)
    found = TargetStore(folder)[5:6]  # of distribution 0
    top = teacher.distributions[0].topk(20)
    assert sorted(found.ids.tolist()) == sorted(top.indices.tolist())
    expected = top.values / (top.values.sum() if rest == "renormalised" else 1)
    by_id = dict(zip(found.ids.tolist(), found.probabilities.tolist(), strict=True))
    assert [by_id[i] for i in top.indices.tolist()] == pytest.approx(expected.tolist(), rel=0.06)  # steps of 5.6%
    assert found.rest == (rest == "bucket")
    whole = torch.special.entr(teacher.distributions[0]).sum()
    left = 1 - top.values.sum()
    entropy = {
        "dropped": whole,
        "renormalised": torch.special.entr(expected).sum(),
        "bucket": torch.special.entr(top.values).sum() + torch.special.entr(left),
    }[rest]
    assert float(found.entropy[0]) == pytest.approx(float(entropy), rel=0.02)
    assert TargetStore(folder)[0:0].rest == (rest == "bucket")
