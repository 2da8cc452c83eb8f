"""A user's own function, asked of each document: `keep = "my_module:keep"`.

    def keep(text):              # a str, with .source, .position and .language beside
        return len(text) > 200   # True: it stays; False: it goes

It is code, and runs only where the command says --allow-code. The module is looked for beside the recipe first.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from gemmule.base.errors import RequestError, WorkError, first_line
from gemmule.base.hashing import sha256_file
from gemmule.refine.sources import Document, MissingSource
from gemmule.refine.steps.step import DocumentStep, Verdict

if TYPE_CHECKING:
    from gemmule.refine.corpus import Corpus


class Text(str):
    """A document's text, and where it stands."""

    source: str
    position: int
    language: str

    @classmethod
    def of(cls, document: Document) -> Text:
        text = cls(document.text)
        text.source, text.position, text.language = document.source, document.position, document.language
        return text


class Keep(DocumentStep):
    name = "keep"

    def __init__(self, function: str, base: Path) -> None:
        """`function` is named as in "my_module:keep"; its module is looked for in `base` first."""
        self.function, self.base = function, base

    def prepare(self, folder: Path, corpus: Corpus | None) -> None:
        load(self.function, self.base)

    def judge(self, document: Document) -> Verdict:
        function = load(self.function, self.base)
        try:
            answer = function(Text.of(document))
        except Exception as error:
            raise WorkError(
                f"refine.keep: {self.function} raised {type(error).__name__}: {first_line(error)}, at {document.place}"
            ) from error
        if isinstance(answer, str) or answer is None:
            raise WorkError(f"refine.keep: {self.function} returned {answer!r}, at {document.place}: True or False")
        if answer:
            return Verdict(document)
        return Verdict(None, f"{self.function} returned {answer!r}")


@cache
def load(named: str, base: Path) -> Callable[[str], object]:
    """Imports it, and with it all code in its module. Raises RequestError if there is no such function."""
    module, _, function = parsed(named)
    if str(base) not in sys.path:
        sys.path.insert(0, str(base))
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise RequestError(f"refine.keep = {named!r}: {type(error).__name__}: {first_line(error)}") from error
    if not callable(found):
        raise RequestError(f"refine.keep = {named!r}: {function} is not a function")
    return found


def parsed(named: str) -> tuple[str, str, str]:
    module, colon, function = named.partition(":")
    if not (colon and function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise RequestError(f'refine.keep = {named!r}: is written as "module:function"')
    return module, colon, function


def identity(named: str, base: Path) -> str:
    """What tells whether it changed: its name, and the hash of its module's file, which is not run.

    Raises MissingSource if there is no such module.
    """
    module = parsed(named)[0]
    places: list[str] | None = [str(base), *sys.path]
    spec = None
    for part in module.split("."):
        spec = PathFinder.find_spec(part, places)
        places = list(spec.submodule_search_locations or []) if spec is not None else []
    if spec is None or spec.origin is None:
        raise MissingSource(f"refine.keep = {named!r}: no module {module} in {base}, nor among Python's")
    return f"{named}, sha256 {sha256_file(Path(spec.origin))[:16]}"
