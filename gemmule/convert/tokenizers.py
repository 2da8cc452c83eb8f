"""The tokenizer of a model from outside, whatever form that has."""

from __future__ import annotations

from pathlib import Path

from gemmule.base.progress import say
from gemmule.tokenize.tokenizer import Tokenizer, load_tokenizer


def read_tokenizer(source: Path | str) -> Tokenizer:
    """That of a folder, a hub id or a GGUF file; a large one of the last takes a minute, which is said.

    Raises RequestError or WorkError, naming what is missing.
    """
    if not Path(source).is_file():
        return load_tokenizer(source)
    from gemmule.convert.importing import gguf_tokenizer  # imports torch

    say(f"reading the tokenizer in {source}: up to a minute")
    return gguf_tokenizer(Path(source))
