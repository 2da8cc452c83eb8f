"""Another memory order of the weights: the same model, the same file."""

from __future__ import annotations

import torch

from gemmule.generate.layout import lay_out_for_decoding
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.model.weights import save


def test_only_the_order_in_memory_changes(tmp_path):
    config = Gemma2Config(
        vocabulary_size=64, layers=2, width=16, heads=2, kv_heads=1, head_dim=16, ffn_width=24, window=4
    )
    model, other = Gemma2(config).eval(), lay_out_for_decoding(Gemma2(config).eval())
    by_columns = {name for name, weight in other.named_parameters() if weight.dim() == 2 and weight.stride(0) == 1}
    assert by_columns == {"model.embed_tokens.weight"} | {
        f"model.layers.{layer}.{part}_proj.weight" for layer in (0, 1) for part in ("self_attn.q", "mlp.gate", "mlp.up")
    }
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(other(ids), model(ids), rtol=0, atol=1e-5)
    save(model, tmp_path / "a")
    save(other, tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
