"""Gemma 2 (arXiv 2408.00118), to read beside the paper.

    config        the shapes, the published sizes, and config.json
    transformer   the model, top to bottom, in plain formulas
    fast/         what computes them faster: attention, norm, compiling
    cut           a smaller model from a larger one, by importance
    cache         keys and values kept while generating
    weights       reads and writes a Hugging Face folder

Nothing is imported here: config needs no torch, and stays quick to import.
"""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
