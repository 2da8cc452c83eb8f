"""Configurations: the published sizes, config.json, refusals, and costs against what PyTorch counts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from gemmule.base.errors import RequestError
from gemmule.model import config as config_module
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
    assert list(config.parameter_shapes.items()) == [(name, list(w.shape)) for name, w in model.state_dict().items()]


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
        ({"attention": "full"}, "attention = 'full': must be alternating, local, global"),
        ({"attention": None}, "attention = None"),
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
        {"attention": "local"},
        {"attention": "global", "layers": 3},
        {"attention": "local", "layers": 1},
        {"attention": "global", "layers": 1},
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


def by_layer(local: float, whole: float) -> dict:
    """Rotary positions as Gemma 3's config.json has them."""
    bases = {"sliding_attention": local, "full_attention": whole}
    return {
        "rope_theta": local,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()},
    }


def test_rotary_positions_by_layer_type_are_read_where_they_are_the_same():
    settings = Gemma2Config(**SHAPE).to_huggingface()
    assert Gemma2Config.from_huggingface(settings | by_layer(7.0, 7.0)).rope_base == 7.0
    assert Gemma2Config.from_huggingface(settings | {"rope_parameters": None, "rope_theta": 9.0}).rope_base == 9.0
    del settings["rope_theta"]
    assert Gemma2Config.from_huggingface(settings | {"rope_parameters": {"rope_theta": 9.0}}).rope_base == 9.0
    assert Gemma2Config.from_huggingface(settings | {"rope_parameters": {"rope_type": "default"}}).rope_base == 1e4


def test_every_key_of_transformers_is_read_fixed_or_changes_nothing():
    """A key that a newer transformers adds has to be thought about."""
    read = {theirs for _, theirs, _ in config_module.HUGGINGFACE_FIELDS} | {"rope_parameters", "layer_types"}
    harmless = {
        "initializer_range", "attention_dropout", "use_cache", "pad_token_id", "eos_token_id", "bos_token_id", "dtype",
        "transformers_version", "architectures", "output_hidden_states", "return_dict", "chunk_size_feed_forward",
        "id2label", "label2id", "problem_type", "_name_or_path", "output_attentions",
    }  # fmt: skip
    theirs = set(AutoConfig.for_model("gemma2").to_dict())
    assert theirs - read - config_module.FIXED.keys() - config_module.NEUTRAL.keys() <= harmless


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
        (by_layer(1e4, 1e6), "rotary positions .*one rope_theta for all layers"),
        (by_layer(7.0, 7.0) | {"rope_theta": 1e4}, "rotary positions"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}}, "rotary positions"),
        ({"rope_parameters": {"full_attention": None, "sliding_attention": None}}, "rotary positions"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, "rotary positions"),  # rope_theta: 10000
        ({"rope_parameters": {"rope_type": "default", "factor": 8.0}}, "rotary positions .*factor"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "rotary positions"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": None}}, "rotary positions"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": "10000"}, "rope_theta": "10000"}, "rotary"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "llama3"),
        ({"rope_scaling": {"type": "default"}}, "rotary positions"),  # and rope_parameters say another thing
        ({"rope_scaling": [1]}, "rotary positions"),
        ({"rope_parameters": None, "rope_theta": None}, "rope_base = None"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"sliding_window_pattern": 6}, "sliding_window_pattern = 6"),
        ({"rope_local_base_freq": 1e4}, "rope_local_base_freq"),
        ({"per_layer_config": {"0": {"head_dim": 8}}}, "per_layer_config"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config.*gptq"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings = None"),
        ({"hidden_activation": None}, "hidden_activation = None"),
        ({"num_key_value_heads": None}, "kv_heads = None"),
        ({"sliding_window": 0}, "window = 0"),
        ({"layer_types": ["sliding_attention"] * 3}, "layer_types"),
        ({"layer_types": ["sliding_attention"] * 3 + ["full_attention"]}, "layer_types"),
        ({"layer_types": []}, "layer_types"),
        ({"layer_types": "sliding_attention"}, "layer_types"),
        ({"layer_types": ["chunked_attention"] * 4}, "layer_types"),
        ({"query_pre_attn_scalar": -1}, "query_scale = -1"),
        ({"attn_logit_softcapping": 0.0}, "attention_cap = 0.0"),
        ({"rms_norm_eps": None}, "norm_epsilon = None"),
    ],
)
def test_another_architecture_is_refused(changes, message):
    settings = Gemma2Config(**SHAPE).to_huggingface() | changes
    with pytest.raises(RequestError, match=message):
        Gemma2Config.from_huggingface(settings)


def test_an_activation_by_its_older_name():
    settings = Gemma2Config(**SHAPE).to_huggingface()
    del settings["hidden_activation"]
    assert Gemma2Config.from_huggingface(settings | {"hidden_act": "gelu_pytorch_tanh"})
    with pytest.raises(RequestError, match=r"hidden_act = 'silu'"):
        Gemma2Config.from_huggingface(settings | {"hidden_act": "silu"})


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


@pytest.mark.parametrize(("attention", "local", "whole"), [("local", 4, 0), ("alternating", 2, 2), ("global", 0, 4)])
def test_the_kind_of_each_layer_counts_in_costs(attention, local, whole):
    config = Gemma2Config(**SHAPE, attention=attention)
    assert config.layer_types.count("sliding_attention") == local
    seen = local * (36 + 12 * 8) / 20 + whole * 10.5  # of 20 tokens, with a window of 8
    per_key = 2 * 2 * config.heads * config.head_dim
    assert config.flops_per_token(20) - config.flops_per_token(1) == pytest.approx(per_key * (seen - 4))
    assert config.kv_cache_bytes(3, 20) == 3 * (local * 8 + whole * 20) * 2 * 2 * 10 * 4  # k and v, kv heads, channels


def test_no_torch_is_needed():
    code = "import sys, gemmule.model.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
