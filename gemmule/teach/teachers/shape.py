"""What a model costs, by its configuration or by the shapes of its weights: parameters and FLOPs. No weight is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemmule.base.errors import WorkError
from gemmule.model.config import Gemma2Config

# as names end, of Hugging Face's models and in GGUF files
TABLES = (".embed_tokens.weight", ".wte.weight", ".word_embeddings.weight", ".embed_in.weight", ".token_embd.weight")
HEADS = (".lm_head.weight", ".embed_out.weight", ".output.weight")


@dataclass(frozen=True)
class Sizes:
    """A model's parameters and FLOPs, as its evaluation reports them."""

    parameters: int
    embedding_parameters: int  # of the table, and of the head where it is another
    flops_per_token: float  # of a forward pass, the head included, the mean over a window


@dataclass(frozen=True)
class Shape(Sizes):
    """What a model costs, whatever its architecture."""

    head_flops: float  # of `flops_per_token`, the head's
    width: int  # of its hidden states
    config: Gemma2Config | None = None  # where gemmule's own model runs it

    @property
    def vocabulary_size(self) -> int:
        """Of the tokens that its head is asked for; 1 at least."""
        return max(1, round(self.head_flops / (2 * max(1, self.width))))

    @property
    def body_flops(self) -> float:
        return self.flops_per_token - self.head_flops


def of_config(config: Gemma2Config, length: int, vocabulary_size: int | None = None) -> Shape:
    """`vocabulary_size`: of the tokens that its head is asked for, if these are not all."""
    head = 2.0 * config.width * min(config.vocabulary_size, vocabulary_size or config.vocabulary_size)
    body = config.flops_per_token(length) - 2.0 * config.embedding_parameters
    return Shape(config.parameters, config.embedding_parameters, body + head, head, config.width, config)


def of_tensors(
    tensors: Mapping[str, Sequence[int]], layers: int, width: int, length: int, vocabulary_size: int | None
) -> Shape:
    """2 FLOPs for each weight of a matrix, and attention over half of a window in the mean (Kaplan et al. 2020,
    arXiv 2001.08361, table 1), as `HuggingFaceTeacher.sizes` counts a loaded one."""
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


def safetensors_shapes(folder: Path) -> dict[str, list[int]]:
    """The shapes that the headers of a folder's files list. Raises WorkError for a damaged one."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                shapes |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WorkError(f"{path}: damaged or cut short ({error})") from None
    return shapes
