"""Gemma 2 (arXiv 2408.00118), to read beside the paper.

    config        the shapes, the published sizes, and config.json
    transformer   the model, top to bottom
    cut           a smaller model from a larger one, by importance
    attention     rotary positions, masks, soft-capped attention
    head          soft-capped logits and every loss against them
    cache         keys and values kept while generating
    weights       reads and writes a Hugging Face folder
    device        cuda, mps or cpu

Nothing is imported here: config needs no torch, and stays quick to import.
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
