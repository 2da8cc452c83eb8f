"""What each model of a recipe is, before there is any: parameters and FLOPs, of its own shape or of its files' headers.

- A model that is trained here, or a Gemma 2 from outside, has a `Gemma2Config`, which counts.
- Any other model's parameters are those that its safetensors or GGUF headers list; no weight is read.
- Of a server, and of a hub id that is not here yet, nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from gemmule.base import addresses
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.hub import find_folder
from gemmule.convert.gguf_names import ARCHITECTURE, require_gguf
from gemmule.model.config import Gemma2Config
from gemmule.plan.plan import Plan
from gemmule.plan.steps.model import gemma2_config
from gemmule.teach.teachers import outside

# as names end, of Hugging Face's models and in GGUF files
TABLES = (".embed_tokens.weight", ".wte.weight", ".word_embeddings.weight", ".embed_in.weight", ".token_embd.weight")
HEADS = (".lm_head.weight", ".embed_out.weight", ".output.weight")


@dataclass(frozen=True)
class Shape:
    """What a model costs, whatever its architecture."""

    parameters: int
    embedding_parameters: int  # of the table, and of the head where it is another
    flops_per_token: float  # of a forward pass, the head included, the mean over a window
    head_flops: float  # of these, the head's
    width: int  # of its hidden states
    config: Gemma2Config | None = None  # where gemmule's own model runs it

    @property
    def body_flops(self) -> float:
        return self.flops_per_token - self.head_flops


def shapes(plan: Plan, vocabulary_size: int) -> dict[str, Shape | None]:
    """Of all the recipe's models; None where nothing can be known. A teacher's head gives the run's tokens alone."""
    length = plan.recipe.data.sequence_length
    return {name: shape_of(plan, name, vocabulary_size, length) for name in plan.recipe.models}


def shape_of(plan: Plan, name: str, vocabulary_size: int, length: int) -> Shape | None:
    model = plan.recipe.models[name]
    if model.architecture is not None:
        return of_config(gemma2_config(model.architecture, vocabulary_size, length), length)
    origin = model.from_ or model.start_from
    assert origin is not None
    if origin in plan.recipe.models:
        return shape_of(plan, origin, vocabulary_size, length)
    shape = of_outside(plan.origins.locate(origin), origin, length, vocabulary_size)
    if model.from_ is not None or shape is None or shape.config is None:
        return shape
    return of_config(replace(shape.config, vocabulary_size=vocabulary_size), length)  # it starts with the run's rows


def of_config(config: Gemma2Config, length: int, vocabulary_size: int | None = None) -> Shape:
    """`vocabulary_size`: of the tokens that its head is asked for, if these are not all."""
    head = 2.0 * config.width * min(config.vocabulary_size, vocabulary_size or config.vocabulary_size)
    body = config.flops_per_token(length) - 2.0 * config.embedding_parameters
    return Shape(config.parameters, config.embedding_parameters, body + head, head, config.width, config)


def of_outside(place: Path, origin: str, length: int, vocabulary_size: int | None = None) -> Shape | None:
    """Of a folder, a GGUF file, or a hub id whose files are here already."""
    if addresses.is_url(origin):
        return None
    if place.is_file():
        return _of_gguf(place, length, vocabulary_size)
    try:
        folder = place if place.is_dir() else find_folder(origin, ["*.json", "*.safetensors"], download=False)
    except RequestError:
        return None
    config = outside.read_config(folder)
    if config["model_type"] == "gemma2":
        return of_config(Gemma2Config.from_huggingface(config), length, vocabulary_size)
    text = config.get("text_config", config)
    layers = text.get("num_hidden_layers", text.get("n_layer", 0))
    width = text.get("hidden_size", text.get("n_embd", 0))
    return _of_tensors(_safetensors_shapes(folder), layers, width, length, vocabulary_size)


def _of_gguf(file: Path, length: int, vocabulary_size: int | None) -> Shape:
    header = _gguf_header(file, file.stat().st_mtime_ns)
    if isinstance(header, Gemma2Config):
        return of_config(header, length, vocabulary_size)
    tensors, layers, width = header
    return _of_tensors(tensors, layers, width, length, vocabulary_size)


@lru_cache(maxsize=4)  # a vocabulary of 262,144 tokens takes a while to get past
def _gguf_header(file: Path, modified: int) -> Gemma2Config | tuple[dict[str, list[int]], int, int]:
    """Of a Gemma 2 its configuration, of any other the shapes of its tensors, its layers and its width."""
    require_gguf()
    from gemmule.convert.gguf_read import open_gguf, open_reader, read_header, value  # imports torch

    reader, architecture = read_header(file)
    if architecture == ARCHITECTURE:
        return open_gguf(file, open_reader(file)).config
    tensors = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    return tensors, *(value(reader, f"{architecture}.{key}", 0) for key in ("block_count", "embedding_length"))


def _of_tensors(
    tensors: Mapping[str, Sequence[int]], layers: int, width: int, length: int, vocabulary_size: int | None
) -> Shape:
    """2 FLOPs for each weight of a matrix, and attention over half of a window in the mean (Kaplan et al. 2020,
    arXiv 2001.08361, table 1), as `distill.huggingface.sizes` counts a loaded one."""
    table = _elements(tensors, TABLES)
    head = _elements(tensors, HEADS) or table
    matrices = sum(math.prod(shape) for shape in tensors.values() if len(shape) > 1)
    tied = not _elements(tensors, HEADS)
    body = 2.0 * (matrices - table - (0 if tied else head)) + 2 * layers * width * length
    head_flops = 2.0 * min(head, (vocabulary_size or math.inf) * width)
    parameters = sum(math.prod(shape) for shape in tensors.values())
    return Shape(parameters, table + (0 if tied else head), body + head_flops, head_flops, width)


def _elements(tensors: Mapping[str, Sequence[int]], names: tuple[str, ...]) -> int:
    return next((math.prod(shape) for name, shape in tensors.items() if f".{name}".endswith(names)), 0)


def _safetensors_shapes(folder: Path) -> dict[str, list[int]]:
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                shapes |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WorkError(f"{path}: damaged or cut short ({error})") from None
    return shapes
