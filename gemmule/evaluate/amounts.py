"""How much of a text an evaluation reads at once. No torch here: an estimate counts it."""

from __future__ import annotations

from gemmule.base.chunks import chunk_rows

LARGEST_READ = 4096  # tokens


def tokens_at_once(vocabulary_size: int) -> int:
    """How many tokens a model reads at once: as many as a chunk of logits is of, for some teachers give no less."""
    return min(LARGEST_READ, chunk_rows(vocabulary_size))
