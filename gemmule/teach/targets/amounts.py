"""How much a teacher is asked at once, and in all, for targets to be stored. No torch here: an estimate counts it."""

from __future__ import annotations

WINDOWS_AT_ONCE, TOKENS_AT_ONCE = 8, 4096  # that the teacher reads, at most of either (but one window)
LOGITS_AT_ONCE = 2**25
SAMPLED_WINDOWS, SAMPLED_POSITIONS = 32, 4096  # of which a coding is solved
SEARCHED_POSITIONS = 512  # of these, for each size tried


def windows_at_once(sequence_length: int) -> int:
    """How many windows the teacher reads at once."""
    return min(WINDOWS_AT_ONCE, max(1, TOKENS_AT_ONCE // sequence_length))
