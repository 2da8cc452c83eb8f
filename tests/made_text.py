"""Text that tests learn from."""

from __future__ import annotations

import random

WORDS = (
    "the", "a", "king", "queen", "fool", "said", "went", "saw", "loved", "and", "or", "not", "to", "of", "in", "under",
    "castle", "river", "night", "day", "sweet", "old",
)  # fmt: skip


def make_text(seed: int, words: int) -> str:
    """Text with something to learn: a few words, some far likelier than others, in lines."""
    generator = random.Random(seed)
    lines = [
        " ".join(generator.choices(WORDS, weights=range(len(WORDS), 0, -1), k=generator.randint(4, 9)))
        for _ in range(words // 6)
    ]
    return "\n".join(lines) + "\n"
