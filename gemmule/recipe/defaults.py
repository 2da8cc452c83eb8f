"""The defaults of a recipe that follow from other values in it: shapes, windows, learning rates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gemmule.base.limits import LARGEST
from gemmule.recipe.schema import Data, batch_for
from gemmule.recipe.values import TOKENS, parse_count

OutsideShape: TypeAlias = Callable[[str], dict[str, Any] | None]  # of a folder or hub id: its architecture


def fill_in(raw: dict[str, Any], outside: OutsideShape) -> None:
    """The defaults that follow from other values. Leaves anything of a wrong type for pydantic to name."""
    data = raw.get("data")
    sequence_length = Data.model_fields["sequence_length"].default
    if isinstance(data, dict):
        sequence_length = data.get("sequence_length", sequence_length)
    models = raw["models"] if isinstance(raw.get("models"), dict) else {}
    for name, model in models.items():
        if not isinstance(model, dict):
            continue
        shape = model.get("architecture")
        if "from" not in model:
            _fill_in_shape(name, models, sequence_length, outside)
        elif isinstance(shape, dict):  # which does not belong there: that alone is to be said
            complete_shape(shape, sequence_length)
        shape, train = model.get("architecture"), model.get("train")
        if isinstance(train, dict):
            width = shape.get("width") if isinstance(shape, dict) else None
            train.setdefault("optimizer", default_optimizer(width, train))
            rate = default_learning_rate(width, train["optimizer"], trained="start_from" in model)
            train.setdefault("learning_rate", rate)


def _fill_in_shape(name: str, models: dict[str, Any], sequence_length: Any, outside: OutsideShape, *path: str) -> Any:
    """Completes a model's architecture, first from the model that it starts from. Gives it, or what is known of it.

    A model that starts from outside weights and says nothing of its shape keeps theirs, unsaid.
    """
    model = models.get(name)
    if not isinstance(model, dict) or isinstance(model.get("from"), str):
        return outside(model["from"] if isinstance(model, dict) else name)
    start, path = model.get("start_from"), (*path, name)
    larger = None
    if isinstance(start, str) and start not in path:  # a cycle is named later
        larger = _fill_in_shape(start, models, sequence_length, outside, *path)
        said = models.get(start)
        if isinstance(said, dict) and "architecture" in said:
            model.setdefault("architecture", {})
    shape = model.get("architecture")
    if shape is None:
        return larger
    if isinstance(shape, dict):
        model["architecture"] = shape = copy.deepcopy(larger if isinstance(larger, dict) else {}) | shape
        complete_shape(shape, sequence_length)
    return shape


def complete_shape(shape: dict[str, Any], sequence_length: Any) -> None:
    """Adds to an architecture what follows from its width and the windows' length, where they are numbers."""
    width = shape.get("width")
    if not isinstance(width, int) or not 0 < width <= LARGEST["width"]:
        return
    heads = shape.setdefault("heads", _default_heads(width))
    if isinstance(heads, int) and heads > 0:
        shape.setdefault("kv_heads", heads // 2 if heads % 2 == 0 else heads)
        shape.setdefault("head_dim", max(2, width // heads // 2 * 2))
    shape.setdefault("ffn_width", 4 * width)
    if isinstance(sequence_length, int):
        shape.setdefault("window", max(1, min(4096, sequence_length // 2)))


def _default_heads(width: int) -> int:
    """Heads of 32 to 256 dimensions that divide the width: 4 up to width 512, then one per 256."""
    wanted = max(4, width // 256)
    return next(heads for heads in range(min(wanted, width), 0, -1) if width % heads == 0)


def default_optimizer(width: Any, train: Mapping[str, Any]) -> str:
    """Muon; AdamW where a batch is small for the width, so that Muon's updates take more time than they save.

    They take about 1.2 width / batch tokens of a step on a CPU. At two tokens for each of the width both end alike at
    equal time (width 256, batches of 512).
    """
    tokens, batch = _count(train.get("tokens")), _count(train.get("batch_tokens"))
    batch = batch or (batch_for(tokens) if tokens else 0)
    return "adamw" if isinstance(width, int) and 0 < batch < 2 * width else "muon"


def _count(value: Any) -> int:
    """0 where it is none, which the check of the recipe says."""
    try:
        count = parse_count(value)
    except ValueError:
        return 0
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count <= TOKENS else 0


def default_learning_rate(width: Any, optimizer: Any = "muon", trained: bool = False) -> float:
    """Muon: 1.1e-2 at width 256, falling with the root of the width. AdamW: 4e-3, falling with the width (Yang et al.
    2022, arXiv 2203.03466). Each the best of the demo's text at widths 64, 128 and 256, for the same batches. A quarter
    of Muon's for a model that starts from trained weights, whole or cut.

    Where the width is not in the recipe, the model starts from outside weights, which a high rate would undo: 2e-4.
    """
    if not isinstance(width, int) or not 0 < width <= LARGEST["width"]:
        return 2e-4
    rate = min(1.6e-2, 4e-3 * 256 / width) if optimizer == "adamw" else 1.1e-2 * (256 / width) ** 0.5
    if trained and optimizer != "adamw":
        rate /= 4
    return float(f"{rate:.2g}")
