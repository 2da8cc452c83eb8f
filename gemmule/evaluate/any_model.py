"""A model to be measured outside of a recipe: any folder, hub id or GGUF file, with its tokenizer."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemmule.base.errors import RequestError
from gemmule.convert.tokenizers import read_tokenizer
from gemmule.recipe import Model
from gemmule.teach.teachers.kinds import IMPORTED, Record, kind_of, place_of
from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

LONGEST = 8192  # tokens of a window, where nobody asks for more: what Gemma 2 was trained on


@dataclass(frozen=True, eq=False)
class AnyModel:
    """A model that is there, and what is needed to ask it."""

    source: str  # as it was named
    model: Teacher
    tokenizer: Tokenizer
    context: int | None  # tokens that it reads at most, as far as its files tell


def find(source: str) -> Path:
    """Where a model lies that is to be measured; of a hub id its copy here, fetched if need be.

    Raises RequestError for what is no model, or one that can't be measured, before anything is loaded.
    """
    if not source.strip():
        raise RequestError("an empty path names no model")
    named = Path(source).expanduser()
    if (kind := kind_of(source)) is not None and kind.top_k(Model(from_=source)) is not None:
        raise RequestError(f"{source}: {kind.noun} provides only its top k at each token, and can't be evaluated")
    if named.is_dir() and not (named / "config.json").is_file():
        raise RequestError(f"{source}: not a model: it has no config.json{_hint(named)}")
    place = place_of(named if named.exists() else source)
    kind = kind_of(place)
    if kind is None or not isinstance(place, Path):
        raise RequestError(f"{source}: not a model folder, hub id or GGUF file (a recipe's name ends in .toml)")
    kind.check_installed(place)
    kind.check(place, 2)
    return place


def _hint(folder: Path) -> str:
    """Where a model is, in a folder of a run that is none itself."""
    finals = [folder / "final", *sorted(folder.glob("models/*/final"))]
    found = next((final for final in finals if (final / "config.json").is_file()), None)
    return f"; there is one in {found}" if found is not None else ""


def load(source: str, place: Path, device: torch.device) -> AnyModel:
    """The model that `find` found. Raises RequestError or WorkError where its files can't be read."""
    kind = kind_of(place)
    assert kind is not None  # `find` has it so
    record, section = Record(source, kind.name), Model(from_=source)
    tokenizer = read_tokenizer(place)
    with tempfile.TemporaryDirectory(prefix="gemmule-") as scratch:  # weights are copied into memory
        loaded_by = kind.import_into(place, Path(scratch), False)
        imported = Path(scratch) / IMPORTED
        loaded_from = imported if imported.is_dir() else place
        model = loaded_by.load(
            loaded_from, device, record=record, key=source, section=section, tokenizer=Path(loaded_from)
        )
    if model.vocabulary_size < tokenizer.vocabulary_size:
        raise RequestError(
            f"{source}: its embedding has {model.vocabulary_size} rows and its tokenizer {tokenizer.vocabulary_size} "
            "tokens: they don't belong together"
        )
    return AnyModel(source, model, tokenizer, model.context)
