"""The formats of text: each a file of this folder with its `FORMATS`, which is all that there is to add.

A format says which files it is of, gives their texts one after the other, and, where it can, the records whose fields
`gemmule init` looks through and a large file's beginning for `gemmule estimate`. A library that only it needs is
imported where it reads: reading a recipe imports every format.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from gemmule.base.encodings import text_blocks, valid_blocks
from gemmule.refine.beginnings import Begin, whole
from gemmule.refine.records import Read, Texts
from gemmule.refine.source_file import SourceFile

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
    in_folders: Literal["always", "alone", "named"] = "always"
    """Of a folder, it is read always, or if nothing else is there to read, or only where a file or a glob names it."""
    in_documents: bool = False
    """Its texts are documents already; else long ones are cut (`cutting.py`)."""

    @property
    def has_fields(self) -> bool:
        return self.records is not None


def streamed(read: Read) -> TextsOf:
    """`Format.texts` of a reader of blocks in UTF-8."""

    def texts(file: SourceFile, field: str, on_read: Callable[[int], object], on_invalid: OnInvalid) -> Texts:
        blocks = text_blocks(file.blocks(on_read), file.name)
        return read(blocks if on_invalid is None else valid_blocks(blocks, on_invalid), file.name, field)

    return texts


@cache
def by_suffix() -> dict[str, Format]:
    """Each format by its suffixes: plain text first, then records, those that are read only alone last."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    formats: list[Format] = [format for module in modules for format in module.FORMATS]
    formats.sort(key=lambda format: (format.has_fields, format.in_folders == "alone"))
    return {suffix: format for format in formats for suffix in format.suffixes}


def format_of(file: SourceFile) -> Format | None:
    """The format of a file, by its name; None for one that isn't read."""
    return by_suffix().get(file.suffix)


def known_format(file: SourceFile) -> Format:
    """The format of a file that `resolve` found."""
    return by_suffix()[file.suffix]
