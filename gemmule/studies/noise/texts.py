"""Real text to plant noise over: the bundled Shakespeare, as pages of prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from gemmule.refine.compressed import read_blocks
from gemmule.refine.sources import BUNDLED, resolve

WORDS = 250  # of a document, at least
SPEAKER = re.compile(r"[A-Z][A-Z .,'-]+\t")
STAGE_DIRECTION = re.compile(r"\[[^\]]*\]")


def works() -> dict[str, str]:
    """The bundled plays and poems, by name."""
    files = resolve([BUNDLED], base=Path())
    return {file.name: b"".join(read_blocks(file.path, file.name)).decode() for file in files}


def speeches(work: str) -> Iterator[str]:
    """Documents of at least 250 words: speeches as paragraphs, without their speakers and stage directions."""
    speeches, words = [], 0
    for paragraph in re.split(r"\n\s*\n", work):
        speech = " ".join(STAGE_DIRECTION.sub("", SPEAKER.sub("", paragraph)).split())
        count = len(speech.split())
        if count < 4 or speech.isupper() or not speech[0].isupper():
            continue  # a heading, or who plays
        speeches.append(speech)
        words += count
        if words >= WORDS:
            yield "\n\n".join(speeches)
            speeches, words = [], 0
