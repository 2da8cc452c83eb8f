"""How much of a text an evaluation reads, and how much at once. No torch here: an estimate counts it."""

from __future__ import annotations

from gemmule.base.chunks import chunk_rows

LARGEST_READ = 4096  # tokens
# Of the tokens that the least trained model of a run learns from, the share that is evaluated on: a token of it costs a
# model a third of what one costs in training. A teacher from outside costs as much here as in teaching.
SHARE_OF_TRAINING, SHARE_OF_TEACHING = 0.25, 0.1
FEWEST_TOKENS = 2**12  # that are evaluated on in any case, where there are so many
FEWEST_ROWS = 64  # of a chunk of logits, where many models share it: a head is read through for each chunk
MODELS_AT_ONCE = 8  # that are evaluated in one pass


def tokens_at_once(vocabulary_size: int) -> int:
    """How many tokens a model reads at once: as many as a chunk of logits is of, for some teachers give no less."""
    return min(LARGEST_READ, chunk_rows(vocabulary_size))
