"""Whether a model finds a number that is hidden in the user's own text, between two of its sentences.

The needle in a haystack (Kamradt 2023), with a number for its answer as RULER has it (Hsieh et al. 2024, arXiv
2404.06654).
"""

from __future__ import annotations

import re
from random import Random
from typing import Any

from gemmule.base.errors import RequestError
from gemmule.evaluate.tasks import Asked
from gemmule.evaluate.tasks.haystack import Needle, Piece, ask

NEEDLE = Needle("The special magic number is {0}.", "What is the special magic number? The special magic number is")
SENTENCE = re.compile(r"[^.!?\n]*[.!?\n]+[^\S\n]*|[^.!?\n]+")
ENOUGH = 16  # times the context: tokens of text among which the number is hidden


def run(asked: Asked) -> dict[str, Any]:
    """What `haystack.ask` returns. Raises RequestError if there is no text, or too little of it."""
    if not asked.texts:
        raise RequestError("needle hides a number in your text: give TEXT")
    return ask(asked, _sentences(asked), NEEDLE, "needle")


def _sentences(asked: Asked) -> list[Piece]:
    """Of as many documents, drawn by the seed, as are enough."""
    order = list(range(len(asked.texts)))
    Random(asked.seed).shuffle(order)
    pieces: list[Piece] = []
    wanted = ENOUGH * asked.context
    for document in order:
        for sentence in SENTENCE.findall(asked.texts[document]):
            ids = asked.tokenizer.encode(sentence)
            pieces.append(ids)
            wanted -= len(ids)
            if wanted <= 0:
                return pieces
    return pieces
