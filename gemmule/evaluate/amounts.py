"""How much of a text an evaluation reads, and how much at once. No torch here: an estimate counts it."""

from __future__ import annotations

from gemmule.base.chunks import chunk_rows

LARGEST_READ = 4096  # tokens
SHARE_OF_TRAINING = 0.1  # of the tokens that the least trained model of a run learns from: that many are evaluated on
FEWEST_TOKENS = 2**14  # that are evaluated on in any case, where there are so many
FEWEST_ROWS = 64  # of a chunk of logits, where many models share it: a head is read through for each chunk
MODELS_AT_ONCE = 8  # that are evaluated in one pass


def tokens_at_once(vocabulary_size: int) -> int:
    """How many tokens a model reads at once: as many as a chunk of logits is of, for some teachers give no less."""
    return min(LARGEST_READ, chunk_rows(vocabulary_size))
