"""Whether a model finds a number in filler text: the passkey retrieval of Mohtashami and Jaggi 2023 (arXiv 2305.16300).

Filler, sentence and question are theirs, without their words of introduction, which would not leave a small model's
context much room.
"""

from __future__ import annotations

from typing import Any

from gemmule.evaluate.tasks import Asked
from gemmule.evaluate.tasks.haystack import Needle, ask

FILLER = (
    "The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.",
)  # fmt: skip
NEEDLE = Needle("The pass key is {0}. Remember it. {0} is the pass key.", "What is the pass key? The pass key is")


def run(asked: Asked) -> dict[str, Any]:
    """What `haystack.ask` returns."""
    filler = [asked.tokenizer.encode(f" {sentence}") for sentence in FILLER]
    repeats = asked.context // sum(map(len, filler)) + 1
    return ask(asked, filler * repeats, NEEDLE, "passkey")
