"""Kinds of models from outside: what is known of one before it is loaded, how it is loaded, and what a run records.

A kind is one file beside this one, named in `KINDS`, whose `KIND` is an instance of a class of its own. It says what
differs from `Kind`; nobody else asks of which kind a model is. Torch is imported only where a model is loaded or asked.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from gemmule.base import artifact, hub
from gemmule.base.errors import RequestError
from gemmule.teach import teachers

if TYPE_CHECKING:
    import torch

    from gemmule.recipe import Model
    from gemmule.teach.teachers.shape import Shape
    from gemmule.teach.teachers.teacher import Teacher
    from gemmule.tokenize.tokenizer import Tokenizer

Source: TypeAlias = str | Path  # an address as the recipe names it, or a folder or file that is there
WEIGHTS = ("config.json", "*.safetensors", "*.safetensors.index.json")  # the files that a folder is known by
RECORD, IMPORTED = "source.json", "model"  # in the folder of a model's step
FIRST = "gemma2"  # what every model from outside was before there were other kinds: their records don't say


@dataclass(frozen=True)
class Record:
    """Where a model from outside lies and of which kind it is, as the folder of its step records it."""

    source: str  # as the recipe names it
    kind: str
    files: str | None = None  # the digest of its files, where they are the hub's, which may have others later

    @property
    def top_k(self) -> int | None:
        """How many tokens it names at each position at most; None: all."""
        return None

    def write(self, folder: Path) -> None:
        artifact.write_json(folder / RECORD, {key: value for key, value in asdict(self).items() if value is not None})

    @staticmethod
    def read(folder: Path) -> Record:
        content = {"kind": FIRST} | json.loads((folder / RECORD).read_text(encoding="utf-8"))
        record = named(content["kind"]).record_type
        return record(**{field.name: content[field.name] for field in fields(record) if field.name in content})


class Needs(NamedTuple):
    """What a kind needs to be installed."""

    extras: str = ""  # of gemmule, as in pip install 'gemmule[extras]'
    modules: tuple[str, ...] = ()  # that these bring


class Facts(NamedTuple):
    """What a new recipe has to know of a teacher."""

    tokenizer: Source  # the folder, file or hub id with the tokenizer whose ids it reads
    model: str | None = None  # what a server calls it, which is what a recipe calls its tokenizer
    longest: int | None = None  # tokens that it reads at most
    top_k: int | None = None  # how many it names at each position; None: all


class Kind:
    """One kind of model from outside. A source is one of its own wherever it is given."""

    name: str  # in the record
    noun = "a model from outside"  # in messages: "a server provides no weights"
    described_as = "from outside"  # in messages: "far is served"
    record_type: type[Record] = Record
    files: tuple[str, ...] = WEIGHTS  # the files that its folder is known by

    # What it can do. What it can't is refused before any work.
    keeps_documents_apart = True
    has_tokenizer = True  # else it reads the ids of the recipe's
    has_weights = True  # that a student can start from, if they are a Gemma 2's

    def top_k(self, section: Model) -> int | None:
        """How many tokens it names at each position, by its section of the recipe; None: all, whole distributions."""
        return None

    # Before any work.

    def recognises(self, source: Source) -> bool:
        """Whether an address, or a folder or file that is there, is of this kind. Kinds are asked in their order."""
        raise NotImplementedError

    def identify(self, address: str, key: str) -> str:
        """What identifies a model that is no folder or file. Raises RequestError naming the recipe's key."""
        raise NotImplementedError

    def check(self, source: Source, sequence_length: int, sample_tokens: int = 0) -> None:
        """Raises RequestError where it can't read windows of this length, or write so many tokens."""

    def needs(self, source: Source) -> Needs:
        return Needs()

    def check_installed(self, source: Source) -> None:
        """Raises RequestError naming the extra that it needs and that is not installed. Nothing is imported."""
        extras, modules = self.needs(source)
        if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
            raise RequestError(f"{source}: needs {' and '.join(missing)}: pip install 'gemmule[{extras}]'")

    def shape(self, source: Source, length: int, vocabulary_size: int | None = None) -> Shape | None:
        """Its parameters and FLOPs over windows of this length, by its files' headers; None where nothing is known.

        `vocabulary_size`: of the tokens that its head is asked for, if these are not all.
        """
        return None

    def facts(self, source: Source) -> Facts:
        """For `gemmule init`. Raises RequestError or WorkError for a model that can't teach."""
        return Facts(source)

    # The making of its step.

    def import_into(self, source: Source, folder: Path, to_start_from: bool) -> Kind:
        """Imports into `folder / IMPORTED` what a run can't use where it lies; the kind of the model that is used."""
        return self

    def rows(self, source: Source, tokenizer: Tokenizer) -> int:
        """The rows of its embedding, as far as they can be known without loading it."""
        return tokenizer.vocabulary_size

    def make_record(self, record: Record, section: Model, tokenizer: Tokenizer) -> Record:
        """What is to be recorded; `tokenizer` has the ids that it reads. Raises RequestError if it can't be used."""
        return record

    # In use.

    def load(
        self, source: Source, device: torch.device, *, record: Record, key: str, section: Model, tokenizer: Path
    ) -> Teacher:
        """The model, to be asked what it expects in the ids of the tokenizer in a folder.

        Raises RequestError, which may name the recipe's key, if it can't be had as the run recorded it.
        """
        raise NotImplementedError


def named(name: str) -> Kind:
    """The kind of this name. Raises RequestError for one that this version does not know."""
    kind = next((kind for kind in _kinds() if kind.name == name), None)
    if kind is None:
        raise RequestError(f"{name!r}: no kind of model that this version of gemmule knows")
    return kind


def kind_of(source: Source) -> Kind | None:
    """None for a hub id, and for what is no model.

    Raises RequestError for a folder without a config.json that can be read.
    """
    return next((kind for kind in _kinds() if kind.recognises(source)), None)


def place_of(source: Source, patterns: tuple[str, ...] | None = None, *, download: bool = True) -> Source:
    """An address, a folder or a file as it is; of a hub id the folder of its copy here, fetched if need be.

    `patterns`: of the files that are needed; all that belong to a model, if not given. Raises RequestError.
    """
    if source.exists() if isinstance(source, Path) else kind_of(source) is not None:
        return source
    if patterns is not None:
        return hub.find_folder(source, patterns, download=download)
    from gemmule.convert.folder import find_source  # imports torch

    return find_source(source)


def shape_of(source: Source, length: int, vocabulary_size: int | None = None) -> Shape | None:
    """`Kind.shape` of a folder or file, an address, or a hub id whose files are here already; None of any other."""
    try:
        place = place_of(source, ("*.json", "*.safetensors"), download=False)
    except RequestError:
        return None
    kind = kind_of(place)
    return kind.shape(place, length, vocabulary_size) if kind is not None else None


def _kinds() -> list[Kind]:
    return [importlib.import_module(f"{teachers.__name__}.{name}").KIND for name in teachers.KINDS]
