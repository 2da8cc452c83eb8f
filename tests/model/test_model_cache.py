"""The cache: what is read through it in portions equals reading everything at once; what it costs."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma2Config as TheirConfig
from transformers import Gemma2ForCausalLM as TheirModel

from gemmule.generate.sampling import generate_ids
from gemmule.model.cache import Cache
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2

TOLERANCE = 2e-4  # of logits up to 30


def some_ids(*shape, words=64, seed=0):
    return torch.randint(words, shape, generator=torch.Generator().manual_seed(seed))


def read(model, ids, portions, cache):
    """The logits [B, T, V] of ids [B, T], read in portions through the cache."""
    with torch.inference_mode():
        return torch.cat([model(part, cache=cache) for part in ids.split(portions, dim=1)], 1)


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("capacity", [0, 11, 32])
@pytest.mark.parametrize("window", [1, 7, 8])
@pytest.mark.parametrize(
    "portions", [[1] * 32, [7] + [1] * 25, [8] + [1] * 24, [5, 11, 1, 15], [32], [3] * 10 + [2], [20] + [1] * 12]
)
def test_portions_give_what_reading_everything_gives(make_model, portions, window, capacity, steady):
    """Four windows and more, token by token and in chunks: before the ring is full, as it fills, and after."""
    model = make_model(layers=3, window=window)
    ids = some_ids(2, 32)
    cache = Cache(model.config, capacity=capacity, steady=steady)
    with torch.no_grad():
        torch.testing.assert_close(read(model, ids, portions, cache), model(ids), rtol=0, atol=TOLERANCE)
    assert cache.length == 32


@pytest.mark.parametrize("attention", ["local", "global"])
@pytest.mark.parametrize("portions", [[7] + [1] * 25, [5, 11, 1, 15], [20] + [1] * 12])
def test_layers_of_one_kind_too(make_model, attention, portions):
    model = make_model(layers=3, window=7, attention=attention)
    ids, cache = some_ids(2, 32), Cache(model.config)
    with torch.no_grad():
        torch.testing.assert_close(read(model, ids, portions, cache), model(ids), rtol=0, atol=TOLERANCE)
    assert cache.length == 32


@pytest.mark.parametrize("window", [1, 5, 64])
@pytest.mark.parametrize("portions", [[4] * 6, [24], [9] + [1] * 15])
def test_padded_rows_equal_their_own_runs(make_model, window, portions):
    model = make_model(layers=3, window=window)
    padding, ids = [0, 3, 17, 23], some_ids(4, 24)
    cache = Cache(model.config, torch.tensor(padding))
    logits = read(model, ids, portions, cache)
    assert logits.isfinite().all()
    for row, padded in enumerate(padding):
        with torch.no_grad():
            alone = model(ids[row : row + 1, padded:])
        torch.testing.assert_close(logits[row : row + 1, padded:], alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("window", [1, 16])
def test_greedy_text_past_the_window_equals_transformers(make_model, fill, window):
    """transformers#35711: crash when prompt plus output passed the window. In one batch and each alone."""
    shape = {"vocab_size": 2048, "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128, "sliding_window": window,
             "query_pre_attn_scalar": 16}  # fmt: skip
    theirs = TheirModel._from_config(TheirConfig(**shape), attn_implementation="eager").eval()
    fill(theirs)
    ours = Gemma2(Gemma2Config.from_huggingface(theirs.config.to_dict())).eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    for tokens in (15, 16, 17, 50):
        ids = some_ids(1, tokens, words=2048, seed=tokens)
        generated = list(generate_ids(ours, ids, max_new_tokens=100, temperature=0))
        assert len(generated) == 100
        everything = torch.cat((ids, torch.tensor([generated])), dim=1)
        with torch.no_grad():  # recomputed without a cache: each choice sees only what stands before it
            logits = theirs(everything, use_cache=False).logits
        assert logits[0, tokens - 1 : -1].argmax(-1).tolist() == generated


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("context", [5, 8, 30])
@pytest.mark.parametrize("attention", ["alternating", "local", "global"])
def test_it_takes_the_bytes_it_says(make_model, dtype, context, attention):
    model = make_model(layers=5, window=8, attention=attention).to(dtype)
    cache = Cache(model.config, capacity=context)
    read(model, some_ids(3, context), 4, cache)
    taken = sum(part.untyped_storage().nbytes() for kept in cache._buffers.values() for part in kept)
    assert taken == model.kv_cache_bytes(3, context)


def test_gemma2_9b_saves_a_quarter_at_8192():
    config = Gemma2Config.preset("gemma2-9b")
    with torch.device("meta"):
        model = Gemma2(config).bfloat16()
    full = 42 * 8192 * 2 * 8 * 256 * 2  # layers, tokens, keys and values, heads, channels, bytes
    assert full == 2_818_572_288
    assert model.kv_cache_bytes(1, 8192) == full * 3 // 4
    assert model.kv_cache_bytes(4, 4096) == 2 * full
    assert config.kv_cache_bytes(1, 8192) == full * 3 // 2  # float32


def test_tokens_one_by_one_copy_no_buffer(make_model):
    model = make_model(window=8)
    cache = Cache(model.config, capacity=32)
    read(model, some_ids(1, 3), 3, cache)
    before = [part.data_ptr() for kept in cache._buffers.values() for part in kept]
    read(model, some_ids(1, 29), 1, cache)
    assert before == [part.data_ptr() for kept in cache._buffers.values() for part in kept]
