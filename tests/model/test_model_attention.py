"""Rotary positions, windows and the cache: hand-computed cases, and one path against another."""

from __future__ import annotations

import math

import pytest
import torch

from gemmule.model.cache import Cache
from gemmule.model.fast.attention import causal_mask, masked
from gemmule.model.transformer import attention, rotary_angles, rotate, visible


def test_rotation_turns_pairs_by_position_times_frequency():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4).expand(1, 1, 3, 4)
    turned = rotate(x, rotary_angles(torch.tensor([0, 1, 5]), 4, 100.0, torch.float32))[0, 0]
    for row, position in zip(turned.tolist(), [0, 1, 5], strict=True):
        for pair, frequency in enumerate([1.0, 0.1]):  # 100^(-2i/4)
            turn = (x[0, 0, 0, pair].item() + 1j * x[0, 0, 0, pair + 2].item()) * complex(
                math.cos(position * frequency), math.sin(position * frequency)
            )
            assert row[pair] == pytest.approx(turn.real, abs=1e-6)
            assert row[pair + 2] == pytest.approx(turn.imag, abs=1e-6)


def test_angles_of_far_positions_are_exact_in_bfloat16():
    cosines, _ = rotary_angles(torch.tensor([4001]), 2, 10000.0, torch.bfloat16)
    assert cosines[0, 0].item() == pytest.approx(math.cos(4001), abs=0.01)  # 4001 itself would round to 4000


def test_masks_by_hand():
    positions = torch.arange(4)
    by_window = {
        None: [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
        2: [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]],
    }
    for window, expected in by_window.items():
        assert visible(positions, window).int().tolist() == expected
        assert (causal_mask(positions, positions, window, torch.float32) == 0).int().tolist() == expected
    apart = visible(positions, None, torch.tensor([[0, 0, 1, 1]]))
    assert apart.int().tolist() == [[[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]]]
    mask = causal_mask(torch.tensor([5]), torch.arange(2, 6), 3, torch.float32)
    assert mask.tolist() == [[-math.inf, 0, 0, 0]]


@pytest.mark.parametrize("cap", [None, 1.5])
def test_attention_by_loops(cap):
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(1, 4, 5, 2, generator=generator, dtype=torch.float64)
    key, value = (torch.randn(1, 2, 5, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    query = whole[:, :, 2:]  # as with a cache
    mask = causal_mask(torch.arange(2, 5), torch.arange(5), None, torch.float64)
    result = masked(query, key, value, mask=mask, scale=0.7, cap=cap)
    formula = attention(whole, key, value, window=None, scale=0.7, cap=cap)[:, :, 2:]
    for head in range(4):
        for row in range(3):
            scores = [0.7 * float(query[0, head, row] @ key[0, head // 2, column]) for column in range(row + 3)]
            if cap:
                scores = [cap * math.tanh(score / cap) for score in scores]
            weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
            expected = sum(weight * value[0, head // 2, column] for column, weight in enumerate(weights))
            for own in (result, formula):
                torch.testing.assert_close(own[0, head, row], expected, rtol=1e-5, atol=1e-6)  # softmax is in float32


def training(model, ids):
    model.train()
    return model(ids)[0, -1]


def prefill(model, ids):
    return model(ids, cache=Cache(model.config))[0, -1]


def cached(model, ids):
    cache = Cache(model.config)
    model(ids[:, :6], cache=cache)
    for position in range(6, ids.shape[1]):
        logits = model(ids[:, position : position + 1], cache=cache)
    return logits[0, -1]


@pytest.mark.parametrize("path", [training, prefill, cached])
def test_window_reaches_three_back_and_not_four(make_model, path):
    """vllm#3385: off by one in the window. One local layer, window 4, 12 tokens."""
    model = make_model(layers=1, window=4)
    ids = torch.randint(64, (1, 12), generator=torch.Generator().manual_seed(0))
    logits = path(model, ids)
    for back, reaches in [(0, True), (1, True), (2, True), (3, True), (4, False), (5, False)]:
        changed = ids.clone()
        changed[0, 11 - back] = (changed[0, 11 - back] + 1) % 64
        assert torch.equal(path(model, changed), logits) is not reaches, f"{back} back"


def test_second_layer_sees_everything(make_model):
    model = make_model(layers=2, window=1)
    ids = torch.zeros(1, 12, dtype=torch.int64)
    changed = ids.clone()
    changed[0, 0] = 1
    assert not torch.equal(model(ids)[0, -1], model(changed)[0, -1])
