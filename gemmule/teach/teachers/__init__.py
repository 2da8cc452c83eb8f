"""Teachers of every kind: what a larger model expects at every token.

teacher      what is asked of a teacher; ensembles
kinds        what is asked of a kind of model from outside, before there is a teacher
gemma2, huggingface, gguf, served      the kinds, one file each
vocabulary, by_bytes, alm              around a teacher whose tokens are not its student's
trial        whether a teacher knows its text
"""

from gemmule.base.lazy import submodules

KINDS = ("served", "gguf", "gemma2", "huggingface")  # each a file here; the first that recognises a source has it

__getattr__ = submodules(__name__)
