"""The beginning of a large file as a file of its own, which stands for the whole in an estimate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gemmule.base.encodings import BadRecord
from gemmule.refine.records import Read
from gemmule.refine.source_file import SourceFile

LEAST = 2**16  # bytes that are read of a file


class Beginning(NamedTuple):
    """A file that holds the beginning of another, or that file itself."""

    file: SourceFile
    share: float  # of the whole
    bytes: int  # about, of text


Begin = Callable[[SourceFile, str, int, Path], Beginning]
"""Of a file, the field that holds its text, about how many bytes are wanted, and where to write without a suffix."""


def whole(file: SourceFile, field: str, size: int, stem: Path) -> Beginning:
    """All of it: of a format that can't be read in part."""
    return Beginning(file, 1.0, file.size)


def first_bytes(keep: Callable[[bytes], bytes]) -> Begin:
    """The first bytes, of which `keep` gives those that can be read without what follows."""

    def beginning(file: SourceFile, field: str, size: int, stem: Path) -> Beginning:
        content, share = file.beginning(max(size, LEAST))
        if share == 1.0 or not (kept := keep(content)):
            return Beginning(file, 1.0, len(content))
        part = stem.with_suffix(file.suffix)
        part.write_bytes(kept)
        return Beginning(replace(file, path=part), share * len(kept) / len(content), len(kept))

    return beginning


def whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def first_texts(read: Read) -> Begin:
    """The texts that `read` finds whole in the beginning, as jsonl; what is wrong with others is said by who reads all
    of the file."""

    def beginning(file: SourceFile, field: str, size: int, stem: Path) -> Beginning:
        content, share = file.beginning(max(size, LEAST))
        if share == 1.0:
            return Beginning(file, 1.0, len(content))
        texts: list[str] = []
        with suppress(BadRecord):
            texts.extend(text for _, text in read(iter([content]), file.name, field) if isinstance(text, str))
        if not texts:
            return Beginning(file, 1.0, len(content))
        return Beginning(as_jsonl(file, texts, field, stem), share, len(content))

    return beginning


def as_jsonl(file: SourceFile, texts: Iterable[str], field: str, stem: Path) -> SourceFile:
    """Texts of a file, in a file that stands for it."""
    part = stem.with_suffix(".jsonl")
    part.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
    return replace(file, path=part)
