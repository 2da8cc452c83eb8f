"""What a GGUF file calls the parts of a Gemma 2, and where llama.cpp computes otherwise: what both directions share.

- The scale of a norm is stored as it multiplies: our weight + 1.
- llama.cpp scales queries by head_dim, or by width / heads at 46 layers, whatever the model says: the difference is
  multiplied into the query projection.
- It always caps: no cap is one too large to be felt.
- A GGUF file of gemmule's also says the model's own query scale and norm weights (1 + weight loses the last bits of a
  small weight), so that they come back as they were.

Source: llama.cpp, src/models/gemma2.cpp and src/llama-model.cpp; the names: gguf's tensor_mapping.py.
"""

from __future__ import annotations

from gemmule.base.errors import RequestError
from gemmule.model.config import Gemma2Config

ARCHITECTURE = "gemma2"
QUERY_SCALE = "gemmule.query_scale"
NORMS = "gemmule.norms"  # of all norms, layer by layer
# A score x becomes cap * tanh(x / cap), which is x in float32 if x / cap is under 1e-4.
NO_CAP = 1e6
LAYERS_OF_27B = 46  # by which llama.cpp knows it

# a head of its own, which Gemma 2 ties to the embedding, comes from some tools
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def to_gguf(name: str) -> str:
    """GGUF's name of a parameter of ours. Raises RequestError for one that llama.cpp's Gemma 2 has not."""
    whole = name.removesuffix(".weight")
    if whole in NAMES:
        return f"{NAMES[whole]}.weight"
    _, _, layer, part = whole.split(".", 3)  # model.layers.7.mlp.up_proj
    if part not in LAYER_NAMES:
        raise RequestError(f"{name}: llama.cpp's Gemma 2 has no such tensor, so a GGUF file can't hold this model")
    return f"blk.{layer}.{LAYER_NAMES[part]}.weight"


def from_gguf(name: str) -> str:
    """Our name of a tensor in a GGUF file; its own if we have none."""
    for ours, theirs in NAMES.items():
        if name == f"{theirs}.weight":
            return f"{ours}.weight"
    block, _, rest = name.partition(".")
    layer, _, part = rest.partition(".")
    for ours, theirs in LAYER_NAMES.items():
        if (block, part) == ("blk", f"{theirs}.weight"):
            return f"model.layers.{layer}.{ours}.weight"
    return name


def is_norm(name: str) -> bool:
    return name.endswith("norm.weight")


def is_query(name: str) -> bool:
    return name.endswith("self_attn.q_proj.weight")


def query_scale_of_llama_cpp(config: Gemma2Config) -> int:
    """What llama.cpp divides attention scores by the root of."""
    return config.width // config.heads if config.layers == LAYERS_OF_27B else config.head_dim


def query_factor(config: Gemma2Config) -> float:
    """What the query projection is multiplied by in GGUF, so that llama.cpp's scale comes to the model's own."""
    return (query_scale_of_llama_cpp(config) / (config.query_scale or config.head_dim)) ** 0.5


def require_gguf() -> None:
    """Raises RequestError if the package `gguf` is not installed."""
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise RequestError("GGUF files need the package gguf: pip install 'gemmule[gguf]'") from None
