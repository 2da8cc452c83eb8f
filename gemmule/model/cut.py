"""A smaller model cut from a larger one: the parts that matter least are left out, the others keep their weights.

After Minitron (arXiv 2407.14679, section 2.2; arXiv 2408.11796), for the Gemma 2 architecture. What matters is measured
by activations on a little text, in one pass without gradients:

- Layers leave in pairs, a local and a global one, so that the two go on alternating; one by one where all are alike.
  Such a group matters as it turns what passes through it: 1 - cosine of what enters and what leaves (arXiv 2403.03853).
- Key and value heads leave with the query heads that share them; query heads leave alike from every group.
- Neurons of the feed-forward and heads are chosen layer by layer, channels of the width for the whole model.
- A norm over fewer channels divides by another mean square. How much of it lies in the channels that stay is measured
  too, and folded into the norm's weight; so is what the width does to the scale of the embedding.

Then it learns from the model that it was cut from. D width, L layers, H heads, K kv heads, C head_dim, F ffn_width;
the smaller model's have a dash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from gemmule.base.errors import RequestError
from gemmule.model.config import Gemma2Config, check_cut
from gemmule.model.transformer import Gemma2, Layer, Linear, RMSNorm


@dataclass(frozen=True, eq=False)
class Importance:
    """How much each part of a model matters on some text: float64, larger is more."""

    channels: Tensor  # [D]: mean size of the inputs of attention, feed-forward and head
    neurons: Tensor  # [L, F]: root mean square of gelu(gate) * up
    heads: Tensor  # [L, H]: mean length of what a query head gathers
    groups: Tensor  # [L // 2], of pairs; [L] where layers leave one by one
    energy: dict[str, Tensor]  # norm -> [D]: each channel's square at its input, over the mean of all channels


@torch.no_grad()
def measure_importance(model: Gemma2, batches: Iterable[Mapping[str, Tensor]]) -> Importance:
    """Runs the model over `batches`: what it reads, {"ids": [B, T]}, and with it `documents` if it is kept to them."""
    sums: dict[str, Tensor] = {}
    tokens = 0
    with ExitStack() as hooks:
        for handle in _observe(model, sums):
            hooks.enter_context(handle)
        for read in batches:
            model.model(**read)
            tokens += read["ids"].numel()
    if not tokens:
        raise ValueError("no text to measure importance on")

    means = {name: total / tokens for name, total in sums.items()}
    layers = [f"model.layers.{layer}" for layer in range(model.config.layers)]
    energy = {name.removesuffix(" energy"): mean for name, mean in means.items() if name.endswith(" energy")}
    return Importance(
        channels=torch.stack([means[norm] for norm in energy if "post_" not in norm]).sum(0),
        neurons=torch.stack([means[f"{layer}.mlp.down_proj"] for layer in layers]).sqrt(),
        heads=torch.stack([means[f"{layer}.self_attn.o_proj"] for layer in layers]),
        groups=torch.tensor([float(means[layer]) for layer in layers if layer in means], dtype=torch.float64),
        energy=energy,
    )


def _observe(model: Gemma2, sums: dict[str, Tensor]) -> Iterator[RemovableHandle]:
    """Hooks that add up, over all tokens that the model reads, what `Importance` is made of, by a module's name."""
    config = model.config
    entering: list[Tensor] = []

    def add(name: str, values: Tensor) -> None:  # [B, T, ...]
        sums[name] = sums.get(name, 0) + values.double().sum((0, 1))

    def norm(module: RMSNorm, inputs: tuple[Tensor], output: Tensor, name: str) -> None:
        square = inputs[0].float() ** 2
        add(f"{name} energy", square / (square.mean(-1, keepdim=True) + module.epsilon))
        add(name, output.float().abs())

    def down(module: Linear, inputs: tuple[Tensor], name: str) -> None:
        add(name, inputs[0].float() ** 2)

    def mixed(module: Linear, inputs: tuple[Tensor], name: str) -> None:
        add(name, inputs[0].float().unflatten(-1, (config.heads, config.head_dim)).norm(dim=-1))

    def layer(module: Layer, inputs: tuple[Tensor], output: Tensor, name: str) -> None:
        entering.append(inputs[0])
        if (int(name.rpartition(".")[2]) + 1) % config.layers_together:
            return  # the first of a pair
        add(name, 1 - F.cosine_similarity(entering[-config.layers_together].float(), output.float(), dim=-1))
        entering.clear()

    for name, module in model.named_modules():
        if isinstance(module, RMSNorm) and _is_of_the_width(name):
            yield module.register_forward_hook(partial(norm, name=name))
        elif isinstance(module, Layer):
            yield module.register_forward_hook(partial(layer, name=name))
        elif name.endswith("down_proj"):
            yield module.register_forward_pre_hook(partial(down, name=name))
        elif name.endswith("o_proj"):
            yield module.register_forward_pre_hook(partial(mixed, name=name))


@torch.no_grad()
def cut(model: Gemma2, config: Gemma2Config, importance: Importance, rows: Tensor | None = None) -> Gemma2:
    """A new model of the shape `config`, in float32 and eval mode, with the weights of `model` that matter most.

    Of the model's own shape it is the same model. With `rows` [V'] (int64) the new vocabulary's token i has the
    embedding that token rows[i] has in `model`.

    Raises RequestError naming the field where `config` can't be cut from the model's (see `check_cut`).
    """
    source = model.config
    check_cut(source if rows is None else replace(source, vocabulary_size=len(rows)), config)
    channels = _best(importance.channels, config.width)
    layers = _kept_layers(importance.groups, source, config.layers)
    kept = [_parts(importance, source, config, layer) for layer in layers]
    scale = (source.width / config.width) ** 0.5  # of the embedding, whose own factor is the width's root

    with torch.device("meta"):  # shapes only
        smaller = Gemma2(config)
    theirs, weights = model.state_dict(), {}
    for name, shape in smaller.state_dict().items():
        origin = re.sub(r"(?<=layers\.)\d+", lambda number: str(layers[int(number[0])]), name)
        weight, module = theirs[origin].float(), origin.removesuffix(".weight")
        if module in importance.energy:
            factor = _share(importance.energy[module], channels) / (scale if module == "model.norm" else 1)
            weights[name] = weight[channels] * factor + (factor - 1)  # the scale is 1 + weight
        elif module == "model.embed_tokens":
            weights[name] = (weight if rows is None else weight[rows])[:, channels] * scale
        else:
            inner = kept[int(name.split(".")[2])].get(module.rsplit(".", 1)[1])
            outwards = module.endswith(("o_proj", "down_proj"))  # back to the width: [D, inner]
            if inner is not None:
                weights[name] = weight[channels][:, inner] if outwards else weight[inner][:, channels]
            elif weight.shape == shape.shape:
                weights[name] = weight  # of a variant: of the channels of a head, say, which all stay
            else:
                raise RequestError(f"{name}: which part of it matters is not known, so this model can't be cut")
    smaller.load_state_dict(weights, assign=True)
    return smaller.eval()


def _is_of_the_width(norm: str) -> bool:
    return norm == "model.norm" or norm.endswith("layernorm")


def _kept_layers(groups: Tensor, source: Gemma2Config, wanted: int) -> list[int]:
    """The layers that stay, in order. The last of an odd number is in no pair and stays."""
    layers, size = source.layers, source.layers_together
    best = _best(groups, len(groups) - (layers - wanted) // size).tolist()
    return [size * group + place for group in best for place in range(size)] + list(range(size * len(groups), layers))


def _parts(importance: Importance, source: Gemma2Config, config: Gemma2Config, layer: int) -> dict[str, Tensor]:
    """What stays of a layer, by matrix: the numbers of its inner rows, or columns."""
    shared, group = config.heads // config.kv_heads, source.heads // source.kv_heads  # query heads of a key head
    groups = importance.heads[layer].view(source.kv_heads, group)
    keys = _best(groups.topk(shared).values.sum(1), config.kv_heads)  # [K']
    queries = torch.cat([_best(groups[key], shared) + group * key for key in keys.tolist()])  # [H']
    neurons = _best(importance.neurons[layer], config.ffn_width)

    def inner(heads: Tensor) -> Tensor:
        return (heads[:, None] * source.head_dim + torch.arange(source.head_dim, device=heads.device)).flatten()

    return dict.fromkeys(("q_proj", "o_proj"), inner(queries)) | dict.fromkeys(("k_proj", "v_proj"), inner(keys)) | (
        dict.fromkeys(("gate_proj", "up_proj", "down_proj"), neurons)
    )  # fmt: skip


def _best(importance: Tensor, count: int) -> Tensor:
    """The numbers of the `count` largest, in order; of equals the first."""
    return importance.argsort(descending=True, stable=True)[:count].sort().values


def _share(energy: Tensor, channels: Tensor) -> float:
    """Root mean square of a norm's input over the channels that stay, by that over all. 1 where all stay."""
    return 1.0 if len(channels) == len(energy) else float(energy[channels].mean().sqrt())
