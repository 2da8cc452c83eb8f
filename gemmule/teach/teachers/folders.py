"""Models in folders as transformers writes them: config.json, safetensors, tokenizer.json. Torch is not imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemmule.base.errors import RequestError, first_line, shown
from gemmule.base.hub import INDEX, pickle_hint
from gemmule.base.limits import LARGEST
from gemmule.teach.teachers.kinds import Facts, Kind, Source

if TYPE_CHECKING:
    from gemmule.tokenize.tokenizer import Tokenizer

# as transformers' configurations call them, and what none reaches
SIZES = (
    dict.fromkeys(
        (
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "n_embd",
            "n_head",
        ),
        LARGEST["ffn_width"],
    )
    | {"vocab_size": LARGEST["vocabulary_size"]}
    | dict.fromkeys(("num_hidden_layers", "n_layer"), LARGEST["layers"])
)


class InFolder(Kind):
    """A model in a folder."""

    def check(self, source: Source, sequence_length: int, sample_tokens: int = 0) -> None:
        folder = Path(source)
        read_config(folder)
        check_shards(folder)
        if not (folder / "tokenizer.json").is_file():
            raise RequestError(
                f"{folder}: has no tokenizer.json; transformers' AutoTokenizer can write one from other files"
            )
        longest = longest_window(folder)
        if longest is not None and longest < sequence_length:
            raise RequestError(f"{folder}: reads at most {longest} tokens; data.sequence_length is {sequence_length}")

    def facts(self, source: Source) -> Facts:
        self.check(source, 2)
        return Facts(source, longest=longest_window(Path(source)))

    def rows(self, source: Source, tokenizer: Tokenizer) -> int:
        return int(text_config(Path(source)).get("vocab_size", tokenizer.vocabulary_size))


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json. Raises RequestError, also for sizes that no model has."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{folder}: its config.json can't be read: {first_line(error)}") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise RequestError(f"{folder}: its config.json names no model_type: not a model's")
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        raise RequestError(f"{folder}: its config.json: text_config = {shown(repr(text), 60)}: must be an object")
    for key, largest in SIZES.items():
        value = text.get(key)
        if isinstance(value, int | float) and not 1 <= value <= largest:
            raise RequestError(
                f"{folder}: its config.json: {key} = {shown(repr(value), 60)}: must be from 1 to {largest:,}"
            )
    return config


def text_config(folder: Path) -> dict[str, Any]:
    """What a folder's config.json says of the model that reads text, which may be one of several."""
    config = read_config(folder)
    text: dict[str, Any] = config.get("text_config", config)
    return text


def longest_window(folder: Path) -> int | None:
    """How many tokens a folder's model can read, where its config.json says so."""
    text = text_config(folder)
    longest = text.get("max_position_embeddings") or text.get("n_positions")
    return longest if isinstance(longest, int) else None


def check_shards(folder: Path) -> None:
    """Raises RequestError naming a weights file that is missing."""
    needed = ["model.safetensors"]
    if (folder / INDEX).is_file():
        try:
            needed = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise RequestError(f"{folder / INDEX}: can't be read: {error}") from None
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing and (hint := pickle_hint(folder)):
        raise RequestError(f"{folder}: {hint}")
    if missing:
        others = f" and {len(missing) - 1} more of its {len(needed)} files" if len(missing) > 1 else ""
        pickled = "" if any(folder.glob("*.safetensors")) else " (weights in .bin files, pickles, are not read)"
        raise RequestError(f"{folder}: {missing[0]}{others} of its weights is missing; copy it there{pickled}")
