"""Models cut from larger ones: what is not needed is what goes, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gemmule.base.errors import RequestError
from gemmule.model import transformer
from gemmule.model.config import Gemma2Config, check_cut, describe_cut
from gemmule.model.cut import Importance, cut, measure_importance

IDS = torch.randint(0, 64, (3, 20), generator=torch.Generator().manual_seed(0))
FOUR = {"layers": 4, "heads": 8, "kv_heads": 4}  # of the models here, beside the small ones of all model tests


def cut_down(model, ids=IDS, **changes):
    return cut(model, replace(model.config, **changes), measure_importance(model, [{"ids": ids}]))


def weights_of(model, layer: int) -> dict[str, torch.Tensor]:
    names = dict(model.named_parameters())
    return {name.split(".")[-2]: weight for name, weight in names.items() if f"layers.{layer}." in name}


def test_the_whole_shape_is_the_identical_model(make_model):
    model = make_model(**FOUR)
    same = cut_down(model)
    assert same.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(weight, same.state_dict()[name]) for name, weight in model.state_dict().items())
    assert same.model.embed_tokens.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()


@torch.no_grad()
def kill(model, part: str) -> dict[str, int]:
    """Makes parts of the model useless, different ones in every layer; gives the smaller shape without them."""
    config = model.config
    for layer in range(config.layers):
        at = weights_of(model, layer)
        generator = torch.Generator().manual_seed(layer)
        if part == "neurons":
            at["up_proj"][torch.randperm(config.ffn_width, generator=generator)[:20]] = 0
        if part == "kv heads":  # and so the query heads that share them
            dead = torch.randperm(config.kv_heads, generator=generator)[:2]
            at["v_proj"].view(config.kv_heads, config.head_dim, -1)[dead] = 0
        if part == "channels":
            dead = torch.arange(3, 32, 4)
            at["o_proj"][dead] = at["down_proj"][dead] = 0
            model.model.embed_tokens.weight[:, dead] = 0
        if part == "pair" and layer in (0, 1):  # a scale of 0 after attention and feed-forward
            at["post_attention_layernorm"].fill_(-1)
            at["post_feedforward_layernorm"].fill_(-1)
    return {"neurons": {"ffn_width": 28}, "kv heads": {"heads": 4, "kv_heads": 2},
            "channels": {"width": 24}, "pair": {"layers": 2}}[part]  # fmt: skip


@pytest.mark.parametrize("part", ["neurons", "kv heads", "channels", "pair"])
def test_parts_that_do_nothing_go_and_the_logits_stay(make_model, part):
    model = make_model(**FOUR)
    before = model(IDS)
    shape = kill(model, part)
    expected = model(IDS)
    assert (expected - before).abs().max() > 0.1  # they did something before
    smaller = cut_down(model, **shape)
    other = torch.randint(0, 64, IDS.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(smaller(IDS), expected, atol=3e-5, rtol=1e-5)  # logits of some tens
    torch.testing.assert_close(smaller(other), model(other), atol=3e-5, rtol=1e-5)


def test_query_heads_leave_alike_from_every_group(make_model):
    model = make_model(heads=4, kv_heads=2)
    with torch.no_grad():
        for layer, weak in ((0, (0, 3)), (1, (1, 2))):  # one of each group
            out = weights_of(model, layer)["o_proj"].view(32, 4, 10)
            out[:, weak] = 0
    importance = measure_importance(model, [{"ids": IDS}])
    for layer, weak in ((0, (0, 3)), (1, (1, 2))):
        importance.heads[layer, list(weak)] = 0
    smaller = cut(model, replace(model.config, heads=2), importance)
    torch.testing.assert_close(smaller(IDS), model(IDS), atol=1e-5, rtol=1e-5)


def test_importance_is_what_its_definitions_say(make_model):
    model = make_model(layers=2)
    found: Importance = measure_importance(model, [{"ids": IDS[:2]}, {"ids": IDS[2:]}])
    layer, hidden = model.model.layers[1], {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: hidden.update({name: (inputs, output)}))
    model(IDS)
    (entered, *_), _ = hidden["model.layers.0"]
    _, left = hidden["model.layers.1"]
    turned = torch.stack([1 - F.cosine_similarity(a, b, dim=0) for a, b in zip(
        entered.flatten(0, 1), left.flatten(0, 1), strict=True)])  # fmt: skip
    assert found.groups.tolist() == pytest.approx([turned.mean().item()], rel=1e-5)
    x = hidden["model.layers.1.pre_feedforward_layernorm"][1]
    activations = F.gelu(x @ layer.mlp.gate_proj.weight.T, approximate="tanh") * (x @ layer.mlp.up_proj.weight.T)
    torch.testing.assert_close(found.neurons[1].float(), activations.pow(2).mean((0, 1)).sqrt())
    gathered = hidden["model.layers.0.self_attn.o_proj"][0][0]
    torch.testing.assert_close(found.heads[0, 2].float(), gathered[..., 20:30].norm(dim=-1).mean())
    read = [name for name in hidden if name.endswith(("input_layernorm", "pre_feedforward_layernorm", "model.norm"))]
    assert len(read) == 5
    torch.testing.assert_close(found.channels.float(), sum(hidden[name][1].abs().mean((0, 1)) for name in read))


def test_a_norm_is_scaled_by_what_its_channels_held(make_model):
    """One layer pair, one kept channel in two: what norms give stays closest to what they gave before."""
    model = make_model(width=32)
    model.model.embed_tokens.weight.data[:, ::2] *= 4  # these hold nearly all, and stay
    smaller = cut_down(model, width=16)
    outputs = []
    for each in (model, smaller):
        each.model.layers[0].input_layernorm.register_forward_hook(lambda *seen: outputs.append(seen[2]))
        each(IDS)
    kept = outputs[0][..., ::2]
    ratio = (outputs[1].norm() / kept.norm()).item()
    assert ratio == pytest.approx(1, abs=0.01)  # uncorrected it would be (17/32)^0.5 = 0.73


def test_another_vocabulary_starts_from_rows_of_the_larger(make_model):
    model = make_model()
    rows = torch.tensor([5, 0, 63, 7, 8])
    smaller = cut(model, replace(model.config, vocabulary_size=5), measure_importance(model, [{"ids": IDS}]), rows=rows)
    ids = torch.tensor([[0, 3, 2, 2, 4]])
    torch.testing.assert_close(smaller(ids), model(rows[ids])[..., rows])


def test_an_odd_number_of_layers_keeps_alternating(make_model):
    model = make_model(layers=5)
    importance = measure_importance(model, [{"ids": IDS}])
    assert len(importance.groups) == 2
    importance.groups[:] = torch.tensor([1.0, 2.0])
    smaller = cut(model, replace(model.config, layers=3), importance)
    for layer, origin in enumerate((2, 3, 4)):
        assert torch.equal(weights_of(smaller, layer)["k_proj"], weights_of(model, origin)["k_proj"])


@pytest.mark.parametrize("attention", ["local", "global"])
def test_layers_of_one_kind_leave_one_by_one(make_model, attention):
    model = make_model(layers=4, attention=attention)
    with torch.no_grad():  # a scale of 0 after attention and feed-forward: the layer does nothing
        weights_of(model, 2)["post_attention_layernorm"].fill_(-1)
        weights_of(model, 2)["post_feedforward_layernorm"].fill_(-1)
    smaller = cut_down(model, layers=3)
    torch.testing.assert_close(smaller(IDS), model(IDS), atol=3e-5, rtol=1e-5)
    importance = measure_importance(model, [{"ids": IDS}])
    importance.groups[:] = torch.tensor([1.0, 4.0, 3.0, 2.0])
    one = cut(model, replace(model.config, layers=1), importance)
    assert torch.equal(weights_of(one, 0)["k_proj"], weights_of(model, 1)["k_proj"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention": "local"}, "attention is local and there alternating"),
        ({"attention": "global", "layers": 2}, "attention is global and there alternating"),
        ({"layers": 3}, "layers is 3 and there 4: pairs .* an even number"),
        ({"layers": 6}, "layers is 6 and there 4"),
        ({"width": 40, "heads": 8}, "width is 40 and there 32"),
        ({"heads": 8, "kv_heads": 2}, "only 2 query heads share a key head.* heads can be 4 at most"),
        ({"head_dim": 8}, "head_dim is 8 and there 10"),
        ({"query_scale": 16}, "query_scale is 16 and there None"),
        ({"attention_cap": None}, "attention_cap is None and there 50"),
        ({"rope_base": 500.0}, "rope_base"),
        ({"vocabulary_size": 60}, "vocabulary_size is 60 and there 64"),
    ],
)
def test_what_cannot_be_cut_is_refused(make_model, changes, words):
    model = make_model(**FOUR)
    with pytest.raises(RequestError, match=words):
        cut_down(model, **changes)


def test_what_was_kept_in_words():
    source = Gemma2Config.preset("gemma2-2b")
    wanted = replace(source, layers=14, width=1536, heads=4, kv_heads=2)
    check_cut(source, wanted)
    words = "14 of 26 layers, 1,536 of 2,304 channels, 4 of 8 heads, 2 of 4 kv heads"
    assert describe_cut(source, wanted) == words
    assert describe_cut(source, source) == ""


class OfAVariant(transformer.Attention):
    """With a norm of each head's channels, and a gain for each head."""

    def __init__(self, config):
        super().__init__(config)
        self.q_norm = transformer.RMSNorm(config.head_dim, config.norm_epsilon)
        self.gains = torch.nn.Parameter(torch.ones(config.heads))

    def forward(self, x, angles, attend):
        self.q_norm(self.q_proj(x).unflatten(-1, (-1, self.config.head_dim)))
        return super().forward(x, angles, attend)


def test_of_a_variant_what_a_cut_leaves_whole_is_kept_and_the_rest_refused(make_model, monkeypatch):
    monkeypatch.setattr(transformer, "Attention", OfAVariant)
    model = make_model(**FOUR)
    smaller = cut_down(model, width=16, ffn_width=24)
    for own, source in zip(smaller.model.layers, model.model.layers, strict=True):
        assert torch.equal(own.self_attn.q_norm.weight, source.self_attn.q_norm.weight)
        assert torch.equal(own.self_attn.gains, source.self_attn.gains)
    with pytest.raises(RequestError, match=r"layers\.0\.self_attn\.gains: which part of it matters is not known"):
        cut_down(model, heads=4, kv_heads=2)
