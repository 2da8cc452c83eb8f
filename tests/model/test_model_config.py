"""Configurations: the published sizes, config.json, refusals, and costs against what PyTorch counts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from gemmule.errors import RequestError
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2

PUBLISHED = {"gemma2-2b": 2_614_341_888, "gemma2-9b": 9_241_705_984, "gemma2-27b": 27_227_128_320}
SHAPE = {
    "vocabulary_size": 64, "layers": 4, "width": 32, "heads": 4, "kv_heads": 2, "head_dim": 10, "ffn_width": 48,
    "window": 8,
}  # fmt: skip


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_presets_have_the_published_number_of_parameters(name, count):
    config = Gemma2Config.preset(name)
    with torch.device("meta"):
        model = Gemma2(config)
    assert sum(weight.numel() for weight in model.parameters()) == count
    assert config.parameters == count
    assert config.embedding_parameters == model.model.embed_tokens.weight.numel()


def test_presets_scale_queries_as_published_and_take_overrides():
    scales = {name: Gemma2Config.preset(name).to_huggingface()["query_pre_attn_scalar"] for name in PUBLISHED}
    assert scales == {"gemma2-2b": 256, "gemma2-9b": 256, "gemma2-27b": 144}
    assert Gemma2Config.preset("gemma2-2b", layers=3).layers == 3
    with pytest.raises(RequestError, match=r"gemma2-3b.*gemma2-2b, gemma2-9b, gemma2-27b"):
        Gemma2Config.preset("gemma2-3b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers = 0"),
        ({"window": -1}, "window = -1"),
        ({"width": 32.5}, "width = 32.5"),
        ({"heads": True}, "heads = True"),
        ({"vocabulary_size": "64"}, "vocabulary_size = '64'"),
        ({"kv_heads": 3}, "kv_heads = 3: heads = 4"),
        ({"kv_heads": 8}, "kv_heads = 8: heads = 4"),
        ({"head_dim": 9}, "head_dim = 9"),
        ({"width": 30}, "width = 30: must be a multiple of heads = 4"),
        ({"attention_cap": 0.0}, "attention_cap = 0.0"),
        ({"final_cap": float("nan")}, "final_cap = nan"),
        ({"query_scale": 12.5}, "query_scale = 12.5"),
        ({"query_scale": -1}, "query_scale = -1"),
        ({"rope_base": None}, "rope_base = None"),
        ({"norm_epsilon": float("inf")}, "norm_epsilon = inf"),
    ],
)
def test_impossible_shapes_are_refused_by_name(changes, message):
    with pytest.raises(RequestError, match=message):
        Gemma2Config(**(SHAPE | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_cap": None, "final_cap": None, "query_scale": 13, "rope_base": 7.0},
        {"final_cap": 3, "layers": 5},
    ],
)
def test_config_json_comes_back_the_same(tmp_path, changes):
    config = Gemma2Config(**(SHAPE | changes))
    settings = config.to_huggingface()
    assert Gemma2Config.from_huggingface(settings) == config
    # and through transformers, which writes it in its own way
    theirs = AutoConfig.for_model(**settings)
    assert Gemma2Config.from_huggingface(theirs.to_dict()) == config
    assert theirs.layer_types == settings["layer_types"] == config.layer_types
    assert theirs.rope_parameters["rope_theta"] == settings["rope_theta"] == config.rope_base
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.bos_token_id) == (0, 1, 2)


def test_gemma_2_2b_as_google_published_it():
    google = {
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "initializer_range": 0.02,
        "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
        "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "float32",
        "transformers_version": "4.42.4", "use_cache": True, "vocab_size": 256000,
    }  # fmt: skip
    assert Gemma2Config.from_huggingface(google) == Gemma2Config.preset("gemma2-2b")
    caps_off = google | {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    assert Gemma2Config.from_huggingface(caps_off).attention_cap is None
    assert Gemma2Config.from_huggingface(caps_off).final_cap is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"model_type": None}, "model_type is None"),
        ({"hidden_activation": "silu"}, "hidden_activation = 'silu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
        ({"layer_types": ["full_attention", "sliding_attention"] * 2}, "layer_types"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
        ({"sliding_window": None}, "window = None"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": "default"}, "rotary positions"),
        ({"hidden_size": "32"}, "width = '32'"),
    ],
)
def test_another_architecture_is_refused(changes, message):
    settings = Gemma2Config(**SHAPE).to_huggingface() | changes
    with pytest.raises(RequestError, match=message):
        Gemma2Config.from_huggingface(settings)


def test_flops_are_those_that_pytorch_counts():
    config = Gemma2Config(**SHAPE)
    with torch.device("meta"):
        model = Gemma2(config)
    # With one key to see, the counter, which knows no masks, counts what must be computed.
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, dtype=torch.int64, device="meta"))
    assert config.flops_per_token(1) == counter.get_total_flops()


@pytest.mark.parametrize(("tokens", "local", "whole"), [(4, 2.5, 2.5), (8, 4.5, 4.5), (20, (36 + 12 * 8) / 20, 10.5)])
def test_flops_of_attention_count_the_visible_keys(tokens, local, whole):
    config = Gemma2Config(**SHAPE)
    seen = 2 * local + 2 * whole  # two layers of each kind
    per_key = 2 * 2 * config.heads * config.head_dim  # score and value, multiply and add
    assert config.flops_per_token(tokens) - config.flops_per_token(1) == pytest.approx(per_key * (seen - 4))


def test_no_torch_is_needed():
    code = "import sys, gemmule.model.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
