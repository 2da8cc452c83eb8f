"""What every vocabulary has, and what its ids take on disk."""

from __future__ import annotations

CONTROL_TOKENS = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<start_of_turn>": 106, "<end_of_turn>": 107}
SMALLEST_VOCABULARY = 256 + len(CONTROL_TOKENS)  # every byte must have its token


def id_bytes(vocabulary_size: int) -> int:
    """Of a token's id: an unsigned integer of 16 bits where the vocabulary fits into these, else of 32."""
    return 2 if vocabulary_size <= 2**16 else 4


def id_type(vocabulary_size: int) -> str:
    """The same as numpy names it: little-endian, so that the bytes are the same on every machine."""
    return f"<u{id_bytes(vocabulary_size)}"
