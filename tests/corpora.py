"""Corpora of documents for the steps of the refinery that decide over all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gemmule.refine.corpus import Corpus, Part, write_part
from gemmule.refine.sources import Document
from gemmule.refine.steps.step import CorpusStep

InOrder = Callable[[Callable[[Part], Any], Iterable[Part]], Iterator[Any]]


def corpus_of(texts: Sequence[str], folder: Path, part: int = 7, in_order: InOrder = map, source: str = "a") -> Corpus:
    """The texts in parts of so many documents; each's position is its number."""
    folder.mkdir(exist_ok=True)
    documents = [Document(text, source, number) for number, text in enumerate(texts)]
    starts = range(0, len(documents), part)
    parts = [write_part(folder / f"{start:06}.arrow", documents[start : start + part]) for start in starts]
    return Corpus(parts, folder, in_order)


def decided(step: CorpusStep, corpus: Corpus) -> list[tuple[int, str]]:
    """What it drops: the number and what is matched."""
    return [(drop.number, drop.matched) for drop in step.decide(corpus).dropped]


class Letters:
    """Words that nobody wrote, and texts of them."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def words(self, count: int) -> list[str]:
        return ["".join(self._random.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(count)]

    def text(self, count: int) -> str:
        return " ".join(self.words(count))
