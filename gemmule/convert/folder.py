"""Publishes a model folder: what importing and exporting to Hugging Face's format have in common."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gemmule import tokenize
from gemmule.base import artifact, hub
from gemmule.base.artifact import CARD, MANIFEST, Artifact, write_json
from gemmule.base.errors import RequestError, WorkError
from gemmule.convert.card import imported_card
from gemmule.convert.file_types import DTYPES
from gemmule.model import weights
from gemmule.model.weights import GENERATION_CONFIG, Checkpoint
from gemmule.tokenize.tokenizer import FILES, Tokenizer

TYPES: dict[str, torch.dtype] = {name: getattr(torch, dtype) for name, dtype in DTYPES.items()}  # of a folder


@dataclass(frozen=True)
class Written:
    """What an import or export wrote, and what its user should know."""

    path: str
    parameters: int
    type: str
    bytes: int
    notes: list[str] = field(default_factory=list)


def find_source(source: str | Path) -> Path:
    """The model folder `source`, or the copy of the hub repository of that name, with all that goes along."""
    return hub.find_folder(source, ("*.json", "*.safetensors", "*.md", *FILES))


def type_of(checkpoint: Checkpoint) -> str:
    """The name of the matrices' type."""
    return next(name for name, dtype in TYPES.items() if dtype == checkpoint.dtype)


def check_vocabulary(place: str | Path, rows: int, tokenizer: Tokenizer | None) -> None:
    """Raises RequestError if the tokenizer has ids that the model's table lacks. More rows than tokens are allowed."""
    if tokenizer is not None and rows < tokenizer.vocabulary_size:
        raise RequestError(
            f"{place}: its embedding has {rows} rows and its tokenizer {tokenizer.vocabulary_size} tokens: "
            "they don't belong together"
        )


def publish_folder(
    out: Path,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer | None,
    source: str | Path,
    settings: Mapping[str, Any],
) -> Written:
    """Writes the model folder `out` from what lies in `source`, a folder or a GGUF file.

    A folder's generation settings and model card go along, and, if it is an artifact, its ancestry.
    """
    origin = Path(source)
    rows = checkpoint.config.vocabulary_size
    notes = [] if tokenizer is not None else ["no tokenizer was carried over"]
    with artifact.publish(out, "model", settings=dict(settings), inputs=_ancestor(origin), locked=False) as folder:
        weights.write(checkpoint, folder)
        generation = _read(folder / GENERATION_CONFIG) | _read(origin / GENERATION_CONFIG)
        if tokenizer is not None:
            tokenize.save(tokenizer, folder)
            if rows > tokenizer.vocabulary_size:
                # transformers never draws these; gemmule knows by itself
                generation["suppress_tokens"] = list(range(tokenizer.vocabulary_size, rows))
                notes.append(
                    f"{rows - tokenizer.vocabulary_size} rows are beyond its tokenizer: these ids are never sampled"
                )
        write_json(folder / GENERATION_CONFIG, generation)
        if (origin / CARD).is_file():
            shutil.copyfile(origin / CARD, folder / CARD)
        else:
            card = imported_card(out.name, checkpoint.config, str(source))
            (folder / CARD).write_text(card, encoding="utf-8")
    size = sum(file.stat().st_size for file in out.iterdir())
    return Written(str(out), checkpoint.config.parameters, type_of(checkpoint), size, notes)


def _ancestor(origin: Path) -> dict[str, Artifact]:
    return {"source": artifact.read(origin)} if (origin / MANIFEST).is_file() else {}


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkError(f"{file}: can't be read: {error}") from error
    return content if isinstance(content, dict) else {}
