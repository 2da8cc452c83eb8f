"""Models from outside the recipe: what kind each is, and what can be checked of it before any work.

    served        http(s)://server/v1
    gguf          a file
    gemma2        a folder or hub repository that gemmule's own model reads
    huggingface   one of any other architecture, which transformers reads

Torch is not imported.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from gemmule.base.addresses import is_url
from gemmule.base.errors import RequestError, first_line, shown
from gemmule.base.hub import INDEX, pickle_hint
from gemmule.base.limits import LARGEST
from gemmule.model.config import Gemma2Config

Kind = Literal["served", "gguf", "gemma2", "huggingface"]
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


def kind_of(source: str | Path) -> Kind:
    """Of a URL, a file or a folder. Raises RequestError for a folder without a config.json that can be read."""
    if is_url(source):
        return "served"
    if Path(source).is_file():
        return "gguf"
    return "gemma2" if read_config(Path(source)).get("model_type") == "gemma2" else "huggingface"


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


def check_folder(folder: Path, sequence_length: int) -> None:
    """Raises RequestError where a folder's model can't be run over windows of this length."""
    config = read_config(folder)
    if config["model_type"] == "gemma2":
        Gemma2Config.from_huggingface(config)
    check_shards(folder)
    if not (folder / "tokenizer.json").is_file():
        raise RequestError(
            f"{folder}: has no tokenizer.json; transformers' AutoTokenizer can write one from other files"
        )
    longest = longest_window(folder)
    if longest is not None and longest < sequence_length:
        raise RequestError(f"{folder}: reads at most {longest} tokens; data.sequence_length is {sequence_length}")


def check_writing(folder: Path, tokens: int) -> None:
    """Raises RequestError where a folder's model can't write so many tokens. gemmule's own model has no such end."""
    longest = longest_window(folder)
    if longest is not None and tokens >= longest and read_config(folder)["model_type"] != "gemma2":
        raise RequestError(f"{folder}: reads at most {longest} tokens; evaluate.sample_tokens is {tokens}")


def longest_window(folder: Path) -> int | None:
    """How many tokens a folder's model can read, where its config.json says so."""
    config = read_config(folder)
    text = config.get("text_config", config)
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
