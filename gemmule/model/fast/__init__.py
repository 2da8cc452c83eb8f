"""What makes Gemma 2 fast, piece by piece: each computes what a plain formula of `transformer.py` computes."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
