"""Every path of attention against the formula of transformer.py: values, gradients, and which keys a query sees."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from gemmule.model.fast import attention as paths
from gemmule.model.fast.attention import flex as flex_path
from gemmule.model.fast.attention.blocked import BLOCK, _parts
from gemmule.model.fast.attention.masked import masked, sequence_mask
from gemmule.model.transformer import attention, rotary_angles, rotated_attention

SHAPES = {  # B, H, K, T, C, window
    "one token": (2, 4, 2, 1, 8, 4),
    "one block": (2, 4, 2, BLOCK, 10, None),
    "one more than a block": (1, 2, 1, BLOCK + 1, 8, 7),
    "no multiple of a block": (2, 6, 3, 2 * BLOCK + 9, 16, None),
    "window under a block": (2, 4, 2, 3 * BLOCK + 5, 8, 16),
    "window over a block": (1, 4, 1, 5 * BLOCK - 3, 8, BLOCK + 6),
    "window of one": (1, 2, 2, BLOCK + 20, 8, 1),
    "window over the sequence": (1, 4, 4, 2 * BLOCK, 8, 1000),
}


def formula(query, key, value, window, scale, cap, documents):
    """The paper's, in float64 but for the softmax; test_model_attention.py holds it against loops."""
    query, key, value = query.double(), key.double(), value.double()
    return attention(query, key, value, window=window, scale=scale, cap=cap, documents=documents)


def visible(B, T, window, documents):
    """Whether a query sees a key, [B, T, T], by loops."""
    seen = torch.zeros(B, T, T, dtype=torch.bool)
    for t in range(T):
        first = 0 if window is None else max(0, t - window + 1)
        for row in range(B):
            same = True if documents is None else documents[row, first : t + 1] == documents[row, t]
            seen[row, t, first : t + 1] = same
    return seen


def by_mask(query, key, value, window, scale, cap, documents):
    mask = sequence_mask(query.shape[2], window, query.dtype, query.device, documents)
    return masked(query, key, value, mask=mask, scale=scale, cap=cap)


def by_formula(query, key, value, window, scale, cap, documents):
    return attention(query, key, value, window=window, scale=scale, cap=cap, documents=documents)


def by_blocks(query, key, value, window, scale, cap, documents):
    """With positions that turn nothing."""
    still = torch.ones(key.shape[2:], dtype=query.dtype), torch.zeros(key.shape[2:], dtype=query.dtype)
    return paths.blocked(query, key, value, still, window=window, scale=scale, cap=cap, documents=documents)


def by_flex(query, key, value, window, scale, cap, documents):
    return flex_path.flex(query, key, value, window=window, scale=scale, cap=cap, documents=documents)


@pytest.fixture(autouse=True)
def flex_uncompiled(monkeypatch):
    """The same formulas, without the minute that compiling takes; on a CPU FlexAttention has no backward pass."""
    monkeypatch.setattr(flex_path, "_compiled", flex_attention)


def inputs(B, H, K, T, C, size=2.0, **kind):
    generator = torch.Generator().manual_seed(T)
    # in memory [B, T, H, C], as the model has them
    made = [torch.randn(B, T, heads, C, generator=generator) * size for heads in (H, K, K)]
    return [x.to(**kind).transpose(1, 2).requires_grad_() for x in made]


def some_documents(B, T):
    """Three to a row, the middle one short; a last one stands for padding."""
    edges = torch.tensor([T // 3, T // 3 + 3, T - T // 5])
    return (torch.arange(T)[:, None] >= edges).sum(-1).expand(B, T) + torch.arange(B)[:, None]


def error(result, expected):
    return float(((result - expected).norm() / expected.norm().clamp(min=1e-9)).detach())


@pytest.mark.parametrize("separate", [False, True], ids=["packed", "separate"])
@pytest.mark.parametrize("cap", [None, 5.0, 50.0, 300.0])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_values_and_gradients(shape, cap, separate):
    *sizes, window = shape
    B, _, _, T, C = sizes
    tensors = inputs(*sizes)
    how = (window, C**-0.5, cap, some_documents(B, T) if separate else None)
    expected = formula(*tensors, *how)
    outer = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(expected, tensors, outer.double())
    for path in (by_mask, by_blocks):
        result = path(*tensors, *how)
        assert error(result, expected) < 1e-5
        for gradient, target in zip(torch.autograd.grad(result, tensors, outer), wanted, strict=True):
            assert error(gradient, target) < 1e-5
    assert error(by_flex(*(x.detach() for x in tensors), *how), expected) < 1e-5


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_positions_turn_query_and_key_in_the_blocks(shape):
    *sizes, window = shape
    tensors = inputs(*sizes)
    how = {"window": window, "scale": 0.3, "cap": 50.0}
    angles = rotary_angles(torch.arange(3, 3 + sizes[3]), sizes[4], 100.0, torch.float32)
    expected = rotated_attention(*(x.double() for x in tensors), tuple(angle.double() for angle in angles), **how)
    outer = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(expected, tensors, outer.double())
    result = paths.blocked(*tensors, angles, **how)
    assert error(result, expected) < 1e-5
    for gradient, target in zip(torch.autograd.grad(result, tensors, outer), wanted, strict=True):
        assert error(gradient, target) < 1e-5


@pytest.mark.parametrize("sequences", [1, 2, 5])
@pytest.mark.parametrize("separate", [False, True], ids=["packed", "separate"])
def test_some_sequences_at_a_time_change_nothing(monkeypatch, sequences, separate):
    B, H, K, T, C = 5, 4, 2, 2 * BLOCK + 9, 8
    tensors = inputs(B, H, K, T, C)
    how = (None, 0.3, 50.0, some_documents(B, T) if separate else None)
    expected = by_formula(*tensors, *how)
    module = importlib.import_module("gemmule.model.fast.attention.blocked")
    monkeypatch.setattr(module, "SCORES", sequences * H * BLOCK * T // torch.get_num_threads() + 1)
    parts = module._parts(tensors[0], K, None, None, buffers=1)
    assert len(list(parts)) == -(-B // sequences)
    result = by_blocks(*tensors, *how)
    assert error(result, expected) < 1e-5
    outer = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    sides = (torch.autograd.grad(side, tensors, outer) for side in (result, expected))
    for gradient, target in zip(*sides, strict=True):
        assert error(gradient, target) < 1e-5


@pytest.mark.parametrize("separate", [False, True], ids=["packed", "separate"])
@pytest.mark.parametrize("window", [None, 1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("path", [by_formula, by_mask, by_blocks, by_flex])
def test_a_query_sees_its_window_and_nothing_else(path, window, separate):
    """vllm#3385: a window off by one."""
    T = 2 * BLOCK + 8
    query, key, _ = (x.detach() for x in inputs(2, 2, 1, T, T))
    documents = some_documents(2, T) if separate else None
    names = torch.eye(T).expand(2, 1, T, T)  # each value says which key it stands at
    weights = path(query, key, names, window, 0.1, 50.0, documents)
    assert torch.equal(weights > 0, visible(2, T, window, documents)[:, None].expand(2, 2, T, T))


def test_gradients_over_many_blocks_by_finite_differences(monkeypatch):
    monkeypatch.setattr(importlib.import_module("gemmule.model.fast.attention.blocked"), "BLOCK", 4)
    tensors = inputs(2, 4, 2, 11, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: by_blocks(*x, 5, 0.7, 1.5, some_documents(2, 11)), tensors)


@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16", "autocast"])
def test_bfloat16_within_its_rounding(autocast):
    """Under autocast the value alone is in bfloat16: rotary angles make float32 of query and key."""
    tensors = inputs(2, 4, 2, 150, 16, size=1.0, dtype=torch.bfloat16)
    if autocast:
        tensors[:2] = (x.detach().float().requires_grad_() for x in tensors[:2])
    expected = formula(*tensors, 40, 0.25, 50.0, None)
    wanted = torch.autograd.grad(expected.sum(), tensors)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = by_blocks(*tensors, 40, 0.25, 50.0, None)
    assert result.dtype == torch.bfloat16
    assert error(result, expected) < 2**-7
    for gradient, target in zip(torch.autograd.grad(result.float().sum(), tensors), wanted, strict=True):
        assert error(gradient, target) < 2**-6


def test_blocks_keep_and_touch_no_more_than_a_window():
    T, window = 40 * BLOCK, 100
    query, key, value = inputs(1, 2, 1, T, 4)
    [(_, blocks, _)] = _parts(query, 1, None, window, buffers=1)
    assert all(seen.stop - seen.start <= BLOCK + window - 1 for _, seen, _ in blocks)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        by_blocks(query, key, value, window, 0.5, 50.0, None)
    angles = 2 * T * 4  # which all layers share
    assert sum(kept) == query.numel() + key.numel() + value.numel() + angles


def test_the_backbone_compiles_whole(make_model):
    model, ids = make_model(layers=2), torch.arange(2 * 70).view(2, 70) % 64
    results = []
    for _ in range(2):
        model.zero_grad()
        loss = model(ids, ids)
        loss.backward()
        results.append([loss.detach(), *(weight.grad.clone() for weight in model.parameters())])
        model.model.compile(backend="aot_eager", fullgraph=True)
    for compiled, eager in zip(results[1], results[0], strict=True):
        assert error(compiled, eager) < 1e-5


def test_the_path_follows_from_device_and_length(monkeypatch):
    taken = []
    for name in ("blocked", "masked"):
        monkeypatch.setattr(paths, name, lambda *_, name=name, **__: taken.append(name))
    monkeypatch.setattr(paths, "sequence_mask", lambda *_: None)
    monkeypatch.setattr(paths, "rotate", lambda x, _: x)
    monkeypatch.setattr(flex_path, "flex", lambda *_, **__: taken.append("flex"))

    def choose(device, tokens, works=True):
        monkeypatch.setattr(flex_path, "works", lambda *_: works)
        query = SimpleNamespace(device=torch.device(device), shape=(1, 2, tokens, 64), dtype=torch.float32)
        paths.attention(query, query, query, (query, query), window=None, scale=1.0, cap=50.0)
        return taken.pop()

    assert choose("cpu", BLOCK) == "masked"
    assert choose("cpu", BLOCK + 1) == "blocked"
    assert choose("cuda", BLOCK + 1) == "flex"
    assert choose("cuda", BLOCK + 1, works=False) == "masked"
    assert choose("mps", BLOCK + 1) == "masked"


def test_flex_that_fails_says_why_once(capsys):
    """There is no GPU here."""
    assert [flex_path.works(64, torch.float32, 77) for _ in range(2)] == [False, False]
    assert capsys.readouterr().err.count("FlexAttention does not work here") == 1


@pytest.mark.parametrize("lengths", [[3, 1, 8], [30, 50, 20]], ids=["short", "blocks"])
def test_separate_documents_are_read_as_if_alone(make_model, lengths):
    model = make_model(layers=2, window=8)
    ids = torch.randint(64, (2, sum(lengths)), generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).expand(2, -1)
    with torch.no_grad():
        alone = torch.cat([model(part) for part in ids.split(lengths, dim=1)], dim=1)
        together = model(ids, documents=numbers)
        torch.testing.assert_close(together, alone, rtol=0, atol=2e-4)  # of logits up to 30
        assert not torch.allclose(model(ids), alone, atol=0.1)
