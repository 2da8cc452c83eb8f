"""Bounds that no real model reaches: of a recipe, and of a file from elsewhere, which is damaged if it says more."""

from __future__ import annotations

# What no real model reaches: a file that says more is damaged, or means harm.
LARGEST = {
    "vocabulary_size": 2**24, "layers": 10_000, "width": 2**20, "heads": 2**16, "kv_heads": 2**16, "head_dim": 2**16,
    "ffn_width": 2**24, "window": 2**40, "context_length": 2**40, "query_scale": 2**20,
}  # fmt: skip

LARGEST_CAP = 10_000  # from there on cap · tanh(s / cap) is s, for any score that trains

LARGEST_ROPE_BASE = 1e12
