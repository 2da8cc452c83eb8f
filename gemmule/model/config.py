"""The shapes of a Gemma 2 model: the published sizes, config.json in and out, and what a shape costs.

First in the flow: a recipe's `architecture`, a checkpoint's config.json and a preset all become a `Gemma2Config`.
It imports no torch, so that a recipe is checked at once. Source: the Gemma 2 report (arXiv 2408.00118), table 1, and
transformers' `Gemma2Config`, whose field names and defaults config.json uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gemmule.base.errors import RequestError, shown
from gemmule.base.limits import LARGEST, LARGEST_CAP, LARGEST_ROPE_BASE

EMBEDDING = "model.embed_tokens.weight"  # which is also the head
TRAINING_PASSES = 3  # forward passes that one of training costs: a backward pass takes two (Kaplan et al. 2020)

PRESETS: dict[str, dict[str, Any]] = {
    "gemma2-2b": {"layers": 26, "width": 2304, "heads": 8, "kv_heads": 4, "head_dim": 256, "ffn_width": 9216},
    "gemma2-9b": {"layers": 42, "width": 3584, "heads": 16, "kv_heads": 8, "head_dim": 256, "ffn_width": 14336},
    "gemma2-27b": {"layers": 46, "width": 4608, "heads": 32, "kv_heads": 16, "head_dim": 128, "ffn_width": 36864,
                   "query_scale": 144},
}  # fmt: skip

# Our field, Hugging Face's, and the value that transformers takes where config.json leaves it out.
HUGGINGFACE_FIELDS: tuple[tuple[str, str, Any], ...] = (
    ("vocabulary_size", "vocab_size", 256000),
    ("layers", "num_hidden_layers", 26),
    ("width", "hidden_size", 2304),
    ("heads", "num_attention_heads", 8),
    ("kv_heads", "num_key_value_heads", 4),
    ("head_dim", "head_dim", 256),
    ("ffn_width", "intermediate_size", 9216),
    ("window", "sliding_window", 4096),
    ("attention_cap", "attn_logit_softcapping", 50.0),
    ("final_cap", "final_logit_softcapping", 30.0),
    ("query_scale", "query_pre_attn_scalar", 256),
    ("norm_epsilon", "rms_norm_eps", 1e-6),
    ("context_length", "max_position_embeddings", 8192),
)


# What every Gemma 2 has and this code does not vary: a checkpoint that says otherwise is another architecture.
FIXED: dict[str, Any] = {
    "model_type": "gemma2",
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "attention_bias": False,
    "use_bidirectional_attention": None,
}
# Keys that no Gemma 2 needs and that change what a model computes: what they may say. All other keys of transformers'
# Gemma2Config are read (HUGGINGFACE_FIELDS, rotary positions, layer_types) or change nothing about a forward pass:
# initializer_range, attention_dropout (of training), use_cache, ids of control tokens, dtype, architectures, labels.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "per_layer_config": (None, {}),
    "quantization_config": (None,),
    "partial_rotary_factor": (None, 1),
    "pruned_heads": (None, {}),
    "sliding_window_pattern": (None, 2),
    "rope_local_base_freq": (None,),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
}
SLIDING, FULL = "sliding_attention", "full_attention"  # in Hugging Face's layer_types
LAYER_TYPES = {"alternating": (SLIDING, FULL), "local": (SLIDING,), "global": (FULL,)}  # of layers in turn
ROPE_KEYS = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}


@dataclass(frozen=True)
class Gemma2Config:
    """The shape of one model. Raises RequestError naming the field and the value where no such model can exist."""

    vocabulary_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int  # of the gate and of the up projection, each
    window: int  # keys that a query sees in a local layer, itself included
    attention_cap: float | None = 50.0  # None: no cap
    final_cap: float | None = 30.0
    query_scale: float | None = None  # attention scores are divided by its square root; None: head_dim
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-6
    context_length: int = 8192  # for other programs: nothing here stops at it
    attention: str = "alternating"  # of the layers: local, global, local, ...; or all are "local", or "global"

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "layers", "width", "heads", "kv_heads", "head_dim", "ffn_width", "window",
                     "context_length"):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST[name]:
                raise RequestError(
                    f"{name} = {shown(repr(value), 60)}: must be a whole number from 1 to {LARGEST[name]:,}"
                )
        for name, most in (("attention_cap", LARGEST_CAP), ("final_cap", LARGEST_CAP), ("rope_base", LARGEST_ROPE_BASE),
                           ("query_scale", LARGEST["query_scale"]), ("norm_epsilon", 1)):  # fmt: skip
            value = getattr(self, name)
            if value is None and name not in ("rope_base", "norm_epsilon"):
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
                raise RequestError(
                    f"{name} = {shown(repr(value), 60)}: must be a number above 0 and at most {most:,.0f}"
                )
        if self.attention not in LAYER_TYPES:
            raise RequestError(f"attention = {shown(repr(self.attention), 60)}: must be {', '.join(LAYER_TYPES)}")
        if self.heads % self.kv_heads:
            raise RequestError(f"kv_heads = {self.kv_heads}: heads = {self.heads} must be a multiple of it")
        if self.head_dim % 2:
            raise RequestError(f"head_dim = {self.head_dim}: must be even (rotary positions turn pairs)")
        if self.width % self.heads:  # no need of the method, but transformers would not open the model
            raise RequestError(f"width = {self.width}: must be a multiple of heads = {self.heads}")
        if self.query_scale is not None and self.query_scale != int(self.query_scale):  # transformers 5 wants an int
            raise RequestError(f"query_scale = {self.query_scale}: must be a whole number")
        if self.query_scale == self.head_dim:  # one way to say it, so that equal models have equal configurations
            object.__setattr__(self, "query_scale", None)
        if self.layers == 1 and self.attention == "local":  # likewise
            object.__setattr__(self, "attention", "alternating")

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Gemma2Config:
        """A published size: "gemma2-2b", "gemma2-9b" or "gemma2-27b", with `overrides` of single fields."""
        if name not in PRESETS:
            raise RequestError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
        return cls(**{"vocabulary_size": 256000, "window": 4096, **PRESETS[name], **overrides})

    @classmethod
    def from_huggingface(cls, settings: Mapping[str, Any]) -> Gemma2Config:
        """Reads the contents of a config.json, of transformers 4 or 5. Raises RequestError for another architecture."""
        if settings.get("model_type") != FIXED["model_type"]:
            raise RequestError(f"config.json: model_type is {settings.get('model_type')!r}; only 'gemma2' can be read")
        for name, expected in FIXED.items():
            if (settings.get(name) or None) != (expected or None) and name in settings:
                raise RequestError(f"config.json: {name} = {settings[name]!r} is not Gemma 2, which has {expected!r}")
        for name, allowed in NEUTRAL.items():
            if settings.get(name) not in allowed:
                raise RequestError(f"config.json: {name} = {settings[name]!r} can't be read: not in Gemma 2")
        other = settings.get("hidden_act", FIXED["hidden_activation"])  # an older name
        if "hidden_activation" not in settings and other != FIXED["hidden_activation"]:
            raise RequestError(f"config.json: hidden_act = {other!r} is not Gemma 2")
        fields = {ours: settings.get(theirs, default) for ours, theirs, default in HUGGINGFACE_FIELDS}
        attention = _read_attention(settings.get("layer_types"), fields["layers"])
        return cls(**fields, rope_base=_read_rope_base(settings), attention=attention)

    def to_huggingface(self) -> dict[str, Any]:
        """The contents of a config.json that transformers 4 and 5, vLLM and llama.cpp's converter read."""
        settings: dict[str, Any] = {"architectures": ["Gemma2ForCausalLM"], **FIXED}
        settings |= {theirs: getattr(self, ours) for ours, theirs, _ in HUGGINGFACE_FIELDS}
        for name in ("attn_logit_softcapping", "final_logit_softcapping"):  # transformers 5 refuses 30 where it is 30.0
            settings[name] = None if settings[name] is None else float(settings[name])
        return settings | {
            "query_pre_attn_scalar": int(self.query_scale or self.head_dim),
            "rms_norm_eps": float(self.norm_epsilon),
            "layer_types": self.layer_types,
            "rope_theta": float(self.rope_base),  # where transformers 4 looks
            "rope_parameters": {"rope_type": "default", "rope_theta": float(self.rope_base)},  # where 5 does
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "use_cache": True,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
            "dtype": "float32",  # transformers 5
            "torch_dtype": "float32",  # transformers 4
        }

    @property
    def score_scale(self) -> float:
        """What a query's product with a key is multiplied by."""
        return float(self.query_scale or self.head_dim) ** -0.5

    @property
    def layer_types(self) -> list[str]:
        """Hugging Face's names of the layers: local, global, local, ..., or all the same."""
        pattern = LAYER_TYPES[self.attention]
        return [pattern[layer % len(pattern)] for layer in range(self.layers)]

    def is_local(self, layer: int) -> bool:
        """Whether the layer, counted from 0, sees only its window."""
        pattern = LAYER_TYPES[self.attention]
        return pattern[layer % len(pattern)] == SLIDING

    @property
    def layers_together(self) -> int:
        """How many layers leave at a time when a model is cut: a local and a global one where they alternate."""
        return len(LAYER_TYPES[self.attention])

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding, which is also the head."""
        return self.vocabulary_size * self.width

    @property
    def parameters(self) -> int:
        """All parameters; the tied head counts once."""
        a_layer = sum(map(math.prod, self._layer_shapes.values()))
        return self.embedding_parameters + self.layers * a_layer + self.width

    @property
    def parameter_shapes(self) -> dict[str, list[int]]:
        """The shape of every parameter by its name, in the model's order; the tied head is not among them."""
        layers = {
            f"model.layers.{layer}.{name}.weight": shape
            for layer in range(self.layers)
            for name, shape in self._layer_shapes.items()
        }
        return {EMBEDDING: [self.vocabulary_size, self.width], **layers, "model.norm.weight": [self.width]}

    @property
    def _layer_shapes(self) -> dict[str, list[int]]:
        """Of one layer's parameters; a matrix is [outputs, inputs]."""
        D, F = self.width, self.ffn_width
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "input_layernorm": [D],
            "self_attn.q_proj": [queries, D],
            "self_attn.k_proj": [keys, D],
            "self_attn.v_proj": [keys, D],
            "self_attn.o_proj": [D, queries],
            "post_attention_layernorm": [D],
            "pre_feedforward_layernorm": [D],
            "mlp.gate_proj": [F, D],
            "mlp.up_proj": [F, D],
            "mlp.down_proj": [D, F],
            "post_feedforward_layernorm": [D],
        }

    def kv_cache_bytes(self, batch: int, context: int, bytes_per_number: int = 4) -> int:
        """What the keys and values of `batch` sequences of `context` tokens take while generating.

        Local layers keep `window` tokens at most.
        """
        kept = sum(min(context, self.window) if self.is_local(layer) else context for layer in range(self.layers))
        return 2 * batch * kept * self.kv_heads * self.head_dim * bytes_per_number

    def flops_per_token(self, sequence_length: int) -> float:
        """Floating-point operations of one token's forward pass, the mean over a sequence of `sequence_length`.

        A multiply and its add count as two. Counted: every matrix product, the head included, and attention's scores
        and sums over the keys that a query sees: all before it in a global layer, at most `window` in a local one.
        Training costs TRAINING_PASSES times as much.
        """
        seen = sum(
            _mean_visible_keys(sequence_length, self.window if self.is_local(layer) else sequence_length)
            for layer in range(self.layers)
        )
        a_layer = sum(math.prod(shape) for shape in self._layer_shapes.values() if len(shape) > 1)
        products = self.layers * a_layer + self.embedding_parameters
        return 2.0 * (products + 2 * self.heads * self.head_dim * seen)


def check_cut(source: Gemma2Config, wanted: Gemma2Config) -> None:
    """Whether a model of the shape `wanted` can be cut from one of `source` (`cut.py`); of the same shape it can.

    Raises RequestError naming the field that stands in the way, and what is possible.
    """
    for name in ("vocabulary_size", "head_dim", "attention_cap", "final_cap", "score_scale", "rope_base",
                 "norm_epsilon"):  # fmt: skip
        mine, theirs = getattr(wanted, name), getattr(source, name)
        if mine != theirs:
            name = "query_scale" if name == "score_scale" else name
            mine, theirs = getattr(wanted, name), getattr(source, name)
            raise RequestError(f"{name} is {mine} and there {theirs}: a cut can't change it")
    if wanted.layer_types != source.layer_types[: wanted.layers] and wanted.layers <= source.layers:
        raise RequestError(f"attention is {wanted.attention} and there {source.attention}: a cut can't change it")
    for name in ("layers", "width", "heads", "kv_heads", "ffn_width", "window"):
        mine, theirs = getattr(wanted, name), getattr(source, name)
        if mine > theirs:
            raise RequestError(f"{name} is {mine} and there {theirs}: a model can be cut down, and not grown")
    if (source.layers - wanted.layers) % source.layers_together:
        raise RequestError(
            f"layers is {wanted.layers} and there {source.layers}: pairs of a local and a global layer are dropped, so "
            f"it must be {'an odd' if source.layers % 2 else 'an even'} number"
        )
    shared = source.heads // source.kv_heads
    if wanted.heads > shared * wanted.kv_heads:
        raise RequestError(
            f"heads is {wanted.heads} with kv_heads = {wanted.kv_heads}, and there only {shared} query heads share a "
            f"key head: with these kv_heads, heads can be {shared * wanted.kv_heads} at most"
        )


def describe_cut(source: Gemma2Config, wanted: Gemma2Config) -> str:
    """What is left of `source`: "2 of 4 layers, 128 of 256 channels"; empty where that is all of it."""
    words = {
        "layers": "layers", "width": "channels", "heads": "heads", "kv_heads": "kv heads", "ffn_width": "neurons",
        "vocabulary_size": "tokens",
    }  # fmt: skip
    pairs = [(getattr(wanted, name), getattr(source, name), word) for name, word in words.items()]
    return ", ".join(f"{mine:,} of {theirs:,} {word}" for mine, theirs, word in pairs if mine != theirs)


def _mean_visible_keys(sequence_length: int, window: int) -> float:
    growing = min(sequence_length, window)  # query i sees i + 1 keys until the window is full
    return (growing * (growing + 1) / 2 + (sequence_length - growing) * window) / sequence_length


def _read_attention(pattern: Any, layers: Any) -> str:
    """Which of LAYER_TYPES config.json's `layer_types` are; alternating where it has none."""
    if pattern is None:
        return "alternating"
    # the length first: a config.json may claim 2^40 layers
    if isinstance(pattern, list) and len(pattern) == layers:
        for name, types in LAYER_TYPES.items():
            if all(found == types[layer % len(types)] for layer, found in enumerate(pattern)):
                return name
    raise RequestError(
        f"config.json: layer_types = {shown(repr(pattern), 200)}: over {layers} layers {SLIDING} and {FULL} must "
        f"alternate, {SLIDING} first, or all must be the same"
    )


def _read_rope_base(settings: Mapping[str, Any]) -> Any:
    """The base of the rotary positions, from `rope_parameters` (transformers 5) or `rope_theta` (4).

    Raises RequestError for whatever is not the one plain rotation of all layers that Gemma 2 has.
    """
    said = [settings[key] for key in ("rope_scaling", "rope_parameters") if settings.get(key)]
    if not said:
        return settings.get("rope_theta", 10000.0)
    parameters = said[0]
    layers = [parameters]
    if isinstance(parameters, Mapping) and (parameters.keys() - ROPE_KEYS) & {"sliding_attention", "full_attention"}:
        layers = [parameters.get(kind) for kind in ("sliding_attention", "full_attention")]  # as Gemma 3 has them
        if parameters.keys() - {"sliding_attention", "full_attention"}:
            layers = [None]
    bases = {_plain_base(entry, settings) for entry in layers}
    if len(bases) > 1 or None in bases or any(other != parameters for other in said):
        raise RequestError(
            f"config.json: rotary positions {' and '.join(map(repr, said))}: only rope_type 'default' can be read, "
            "with one rope_theta for all layers"
        )
    return bases.pop()


def _plain_base(parameters: Any, settings: Mapping[str, Any]) -> Any:
    """The base of rotary positions of the default type; None where they are of another, or say two things."""
    if not isinstance(parameters, Mapping) or parameters.keys() - ROPE_KEYS:
        return None
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind != "default" or parameters.get("partial_rotary_factor", 1) != 1:
        return None
    bases = [place["rope_theta"] for place in (parameters, settings) if "rope_theta" in place]
    numbers = all(isinstance(base, int | float) for base in bases)
    return (bases or [10000.0])[0] if numbers and len(set(bases)) < 2 else None
