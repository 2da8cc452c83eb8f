"""New weights: what they follow from, and how large they are; and the choice of a device."""

from __future__ import annotations

import pytest
import torch

from gemmule.base.device import choose_device
from gemmule.base.errors import RequestError
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2

CONFIG = Gemma2Config(
    vocabulary_size=1000, layers=2, width=128, heads=4, kv_heads=2, head_dim=48, ffn_width=300, window=8
)


def equal(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return [torch.equal(mine, theirs) for mine, theirs in pairs]


def test_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = Gemma2(CONFIG).initialise(7)
    torch.rand(5)
    second = Gemma2(CONFIG).initialise(3).initialise(7)
    assert all(equal(first, second))
    other = Gemma2(CONFIG).initialise(8)
    assert [name for name, same in zip(first.state_dict(), equal(first, other), strict=True) if same] == [
        name for name in first.state_dict() if "norm" in name
    ]
    assert all(equal(Gemma2(CONFIG), Gemma2(CONFIG).initialise(0)))


def test_making_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Gemma2(CONFIG)
    assert torch.equal(torch.rand(3), expected)


def test_first_embeddings_and_logits_have_variance_one():
    model = Gemma2(CONFIG)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            assert (weight == 0).all()  # the scale is 1 + weight
        else:
            deviation = 128**-0.5 if "embed" in name else weight.shape[1] ** -0.5
            assert weight.std().item() == pytest.approx(deviation, rel=0.03), name
            assert weight.mean().item() == pytest.approx(0, abs=0.02 * deviation), name
    with torch.no_grad():
        logits = model(torch.randint(1000, (4, 32), generator=torch.Generator().manual_seed(0)))
    assert logits.var().item() == pytest.approx(1, rel=0.1)


def test_parameters_have_the_names_of_hugging_face():
    names = {name.replace("layers.1.", "layers.0.") for name in Gemma2(CONFIG).state_dict()}
    assert sorted(names) == [
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.post_feedforward_layernorm.weight",
        "model.layers.0.pre_feedforward_layernorm.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
        "model.norm.weight",
    ]


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "cpu"), (False, False, "cpu")],  # mps only if asked for
)
def test_auto_device(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 * cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == torch.device(expected)
    assert choose_device("cpu") == torch.device("cpu")
    if mps:
        assert choose_device("mps") == torch.device("mps")
    if cuda:
        assert choose_device("cuda:1") == torch.device("cuda", 1)
        with pytest.raises(RequestError, match="cuda:2"):
            choose_device("cuda:2")
    else:
        with pytest.raises(RequestError, match="'cuda': not available on this machine"):
            choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda1"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(RequestError, match="must be auto, cpu, mps, cuda"):
        choose_device(name)
