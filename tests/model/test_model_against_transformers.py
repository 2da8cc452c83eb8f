"""The model against transformers' Gemma2ForCausalLM (eager, float32): logits, gradients, greedy text, both ways."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers import Gemma2Config as TheirConfig
from transformers import Gemma2ForCausalLM as TheirModel

from gemmule.generate.sampling import generate_ids
from gemmule.model.weights import load, save

SMALL = {
    "vocab_size": 96, "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 40, "sliding_window": 8, "query_pre_attn_scalar": 8,
}  # fmt: skip
CASES = {  # changes to SMALL, and the number of tokens
    "shorter than the window": ({}, 5),
    "as long as the window": ({}, 8),
    "three windows": ({}, 24),
    "odd length": ({}, 19),
    "one kv head": ({"num_key_value_heads": 1}, 21),
    "as many kv heads as heads": ({"num_key_value_heads": 4}, 21),
    "head_dim above width / heads": ({"head_dim": 26}, 21),
    "head_dim below width / heads": ({"head_dim": 2}, 21),
    "width 4": ({"hidden_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6}, 21),
    "9 heads": ({"hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 14}, 21),
    "window 1": ({"sliding_window": 1}, 21),
    "no attention cap": ({"attn_logit_softcapping": None}, 21),
    "no final cap": ({"final_logit_softcapping": None}, 21),
    "no cap": ({"attn_logit_softcapping": None, "final_logit_softcapping": None}, 21),
    "tight caps": ({"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}, 21),
    "odd query scale": ({"query_pre_attn_scalar": 13}, 21),
    "other rope base": ({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, 21),
    "other epsilon": ({"rms_norm_eps": 0.1}, 21),
    "one layer": ({"num_hidden_layers": 1}, 21),
    "all layers local": ({"layer_types": ["sliding_attention"] * 3}, 29),  # beyond what three windows reach
    "all layers global": ({"layer_types": ["full_attention"] * 3}, 21),
}
TOLERANCE = 2e-5


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def pair(request, tmp_path, fill):
    """Their model, ours loaded from the folder that theirs wrote, and ids [2, T]."""
    changes, tokens = request.param
    theirs = TheirModel._from_config(TheirConfig(**(SMALL | changes)), attn_implementation="eager").eval()
    fill(theirs)
    theirs.save_pretrained(tmp_path)
    # not id 0: transformers gives the embedding of the padding id no gradient
    ids = torch.randint(1, 96, (2, tokens + 1), generator=torch.Generator().manual_seed(1))
    return theirs, load(tmp_path), ids


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))


def test_logits(pair):
    theirs, ours, ids = pair
    with torch.no_grad():
        logits = ours(ids)
        expected = theirs(ids).logits
    assert logits.dtype == torch.float32
    assert float(expected.std()) > 1  # else the test would see little
    assert relative_difference(logits, expected) <= TOLERANCE


def test_loss_and_gradients(pair):
    theirs, ours, ids = pair
    loss = ours(ids[:, :-1], ids[:, 1:])
    loss.backward()
    expected = torch.nn.functional.cross_entropy(theirs(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=TOLERANCE)
    gradients = {name: weight.grad for name, weight in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, weight in ours.named_parameters():
        difference, size = (weight.grad - gradients[name]).abs().max(), gradients[name].abs().max()
        assert difference <= TOLERANCE * size.clamp(min=1e-3), (name, difference / size)


def test_greedy_generation(pair):
    theirs, ours, ids = pair
    prompt = ids[:1, :-1]
    expected = theirs.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert list(generate_ids(ours, prompt, max_new_tokens=20, temperature=0)) == expected[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("style", ["transformers 4", "transformers 5"])
def test_rope_base_wherever_config_json_has_it(tmp_path, fill, style):
    theirs = TheirModel._from_config(
        TheirConfig(**SMALL, rope_parameters={"rope_type": "default", "rope_theta": 123.0}), attn_implementation="eager"
    ).eval()
    fill(theirs)
    theirs.save_pretrained(tmp_path)
    if style == "transformers 4":
        file = tmp_path / "config.json"
        settings = json.loads(file.read_text())
        del settings["rope_parameters"], settings["layer_types"]
        file.write_text(json.dumps(settings | {"rope_theta": 123.0, "torch_dtype": "float32"}))
    ids = torch.arange(1, 41)[None]
    ours = load(tmp_path)
    assert ours.config.rope_base == 123.0
    with torch.no_grad():
        assert relative_difference(ours(ids), theirs(ids).logits) <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"query_scale": 7, "rope_base": 77.0, "attention_cap": None, "norm_epsilon": 1e-3, "context_length": 99},
        {"final_cap": 3, "attention_cap": 2, "window": 1, "kv_heads": 1, "query_scale": 144.0, "layers": 3},
        {"attention": "local", "layers": 3},
        {"attention": "global", "layers": 3},
    ],
    ids=["defaults", "unusual", "whole numbers where transformers wants fractions", "local", "global"],
)
def test_transformers_opens_our_folder(tmp_path, make_model, changes):
    ours = make_model(**changes)
    save(ours, tmp_path)
    theirs, notes = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    assert theirs.config.max_position_embeddings == ours.config.context_length
    ids = torch.randint(0, 64, (2, 25), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_difference(ours(ids), theirs(ids).logits) <= TOLERANCE


def test_bfloat16_weights_are_computed_in_bfloat16(tmp_path, make_model):
    ours = make_model()
    save(ours.to(torch.bfloat16), tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert theirs.dtype == torch.bfloat16  # what our config.json says
    ids = torch.randint(0, 64, (2, 25), generator=torch.Generator().manual_seed(1))
    into_first_layer = []
    ours.model.layers[0].register_forward_pre_hook(lambda _, inputs: into_first_layer.append(inputs[0]))
    with torch.no_grad():
        assert ours.model(ids).dtype == torch.bfloat16
        # root 32 is no bfloat16 number: the factor is rounded before it multiplies
        assert torch.equal(into_first_layer[0], theirs(ids, output_hidden_states=True).hidden_states[0])
        logits = ours(ids)
        exact = load(tmp_path)(ids)
        ours_off, theirs_off = relative_difference(logits, exact), relative_difference(theirs(ids).logits, exact)
    assert logits.dtype == torch.float32
    assert 1e-4 < ours_off < 1.5 * theirs_off
