"""What makes Gemma 2 fast, piece by piece: `transformer.FAST` puts each in the place of that file's plain formula."""

from gemmule.base.lazy import submodules

__getattr__ = submodules(__name__)
