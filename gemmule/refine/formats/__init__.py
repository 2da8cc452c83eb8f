"""The formats of text: each a file of this folder with its `FORMATS`, which is all that there is to add.

A format says which files it is of, gives their texts one after the other, and, where it can, the records whose fields
`gemmule init` looks through and a large file's beginning for `gemmule estimate`. A library that only it needs is
imported where it reads: reading a recipe imports every format.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from gemmule.base.encodings import BadRecord, text_blocks, valid_blocks
from gemmule.refine.beginnings import Begin, whole
from gemmule.refine.records import Read, Texts
from gemmule.refine.source_file import SourceFile

InFolders = Literal["always", "instead", "alone", "named"]
OnInvalid = Callable[[int], object] | None
TextsOf = Callable[[SourceFile, str, Callable[[int], object], OnInvalid], Texts]


@dataclass(frozen=True)
class Format:
    """How files with one of these suffixes hold text."""

    suffixes: tuple[str, ...]
    texts: TextsOf
    """The texts of a file, with their positions: of (the file, the field that holds the text of records, what is told
    how many of the file's bytes are read, what is told how many of its bytes are invalid, and were replaced; None: they
    are not). Raises BadRecord or WorkError for what spoils the rest of the file."""
    records: Callable[[SourceFile], Iterator[dict[str, Any]]] | None = None
    """The first records of a file, as {field: value}; None for a format without fields. What is wrong with the file
    need not be said here: it is when all of it is read."""
    beginning: Begin = whole
    """About so many bytes of a file's text, as a file of its own if they are not all (`beginnings.py`)."""
    in_folders: InFolders = "always"
    """Of a folder, it is read always; or instead, if there is nothing of the first kind; or if it is alone there; or
    only where a file or a glob names it."""
    in_documents: bool = False
    """Its texts are documents already; else long ones are cut (`cutting.py`)."""
    extract: Callable[[str], str] | None = None
    """The text in what `texts` gives, if that is markup: slow, and to be had in any process; empty if there is none."""
    members: Callable[[SourceFile, Callable[[str], object]], Iterator[SourceFile | BadRecord]] | None = None
    """The files in an archive, each to be read while the iteration is at it, and what is told of others that are left
    out. Raises BadRecord or WorkError."""

    @property
    def has_fields(self) -> bool:
        return self.records is not None


def streamed(read: Read) -> TextsOf:
    """`Format.texts` of a reader of blocks in UTF-8."""

    def texts(file: SourceFile, field: str, on_read: Callable[[int], object], on_invalid: OnInvalid) -> Texts:
        blocks = text_blocks(file.blocks(on_read), file.name)
        return read(blocks if on_invalid is None else valid_blocks(blocks, on_invalid), file.name, field)

    return texts


def read_in_folders(present: Collection[InFolders]) -> set[InFolders]:
    """Which formats are read of a folder, or an archive, that holds files of such."""
    if "always" in present:
        return {"always"}
    if "instead" in present:
        return {"instead"}
    return set() if "named" in present else {"alone"}


@cache
def by_suffix() -> dict[str, Format]:
    """Each format by its suffixes: plain text, records, archives; of each, what is read of every folder first."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    formats: list[Format] = [format for module in modules for format in module.FORMATS]
    formats.sort(key=lambda format: (bool(format.members), format.has_fields, format.in_folders != "always"))
    return {suffix: format for format in formats for suffix in format.suffixes}


def format_of(file: SourceFile) -> Format | None:
    """The format of a file, by its name; None for one that isn't read."""
    return by_suffix().get(file.suffix)


def known_format(file: SourceFile) -> Format:
    """The format of a file that `resolve` found."""
    return by_suffix()[file.suffix]
