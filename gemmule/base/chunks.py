"""How many logits are in memory at once: [tokens, vocabulary] is larger than all else, so nobody holds the whole of it.

Training's fused head, the evaluation and the tokens' losses go through a chunk of rows at a time, and through a chunk
in blocks. No torch here: an estimate counts chunks too.
"""

from __future__ import annotations

CHUNK, CHUNK_ELSEWHERE = 2**24, 2**27  # logits; on a CPU: 64 MB; an accelerator wants larger products
BLOCK = 2**18  # logits on a CPU: 1 MB, as the second-level cache; an accelerator takes a chunk at once


def chunk_rows(vocabulary_size: int, device: str = "cpu") -> int:
    """The rows of a chunk, on a device of this type."""
    return max(1, (CHUNK if device == "cpu" else CHUNK_ELSEWHERE) // vocabulary_size)


def block_rows(vocabulary_size: int, device: str = "cpu") -> int:
    """The rows of a block."""
    return max(1, (BLOCK if device == "cpu" else CHUNK_ELSEWHERE) // vocabulary_size)
