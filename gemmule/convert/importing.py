"""`gemmule import`: any Gemma 2 as a gemmule model folder.

A Hugging Face folder or hub id keeps its types and its tokenizer; a GGUF file is dequantised, and its tokenizer rebuilt
if gemmule wrote it. Weights pass through some rows at a time, so that a model needs little more memory than its largest
piece.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gemmule.base import host
from gemmule.base.artifact import refuse_existing, verify_folder
from gemmule.base.hashing import sha256_files
from gemmule.convert.folder import Written, check_vocabulary, find_source, publish_folder
from gemmule.convert.gguf_names import ARCHITECTURE, require_gguf
from gemmule.model import weights
from gemmule.tokenize.tokenizer import Tokenizer, from_gguf, load_tokenizer


def import_model(source: str | Path, out: Path) -> Written:
    """Makes the model folder `out` of `source`: a folder, a hub id or a GGUF file.

    Raises RequestError where `source` is no Gemma 2 or `out` is taken, WorkError where a file is damaged. Then nothing
    is left behind.
    """
    refuse_existing(out)
    file = Path(source).expanduser()
    if file.is_file():
        return _import_gguf(file, out)
    folder = find_source(source)
    verify_folder(folder)
    checkpoint = weights.open_folder(folder)
    tokenizer = load_tokenizer(folder) if (folder / "tokenizer.json").is_file() else None
    check_vocabulary(source, checkpoint.config.vocabulary_size, tokenizer)
    settings = _origin(source, sorted(folder.glob("*.safetensors")))
    return publish_folder(out, checkpoint, tokenizer, folder, settings)


def gguf_architecture(file: Path) -> str:
    """What a GGUF file says that it holds, as "gemma3". Raises RequestError if it is none, WorkError if damaged."""
    require_gguf()
    from gemmule.convert.gguf_read import check_places, read_header

    reader, architecture = read_header(file)
    check_places(file, reader)
    return str(architecture)


def gguf_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in a GGUF file: one that gemmule wrote exactly, any other as transformers rebuilds it."""
    return _gguf_tokenizer(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)  # that of Gemma 3 takes a minute, and a run asks twice: for its own and for the teacher
def _gguf_tokenizer(file: Path, modified: int) -> Tokenizer:
    require_gguf()
    from gemmule.convert.gguf_read import read_header
    from gemmule.convert.gguf_tokenizer import read_tokenizer

    reader, architecture = read_header(file)
    found = (read_tokenizer(reader) if architecture == ARCHITECTURE else None) or from_gguf(file)
    host.give_back()
    return found


def _import_gguf(file: Path, out: Path) -> Written:
    require_gguf()
    from gemmule.convert.gguf_read import open_gguf, open_reader, value
    from gemmule.convert.gguf_tokenizer import read_tokenizer

    reader = open_reader(file)
    checkpoint = open_gguf(file, reader)
    tokenizer = read_tokenizer(reader)
    check_vocabulary(file, checkpoint.config.vocabulary_size, tokenizer)
    written = publish_folder(out, checkpoint, tokenizer, file, _origin(file, [file]))
    if tokenizer is not None:
        return written
    kind = value(reader, "tokenizer.ggml.model", "none")
    missing = (
        f"its tokenizer (of GGUF's kind {kind!r}) was not carried over: "
        "put tokenizer.json and tokenizer_config.json of the original model into the folder"
    )
    return replace(written, notes=[missing])


def _origin(source: str | Path, files: Iterable[Path]) -> dict[str, Any]:
    """What the manifest says of where a model came from."""
    paths = list(files)
    hashes = {f"import.sha256.{file.name}": sha256 for file, sha256 in zip(paths, sha256_files(paths), strict=True)}
    return {"import.source": str(source), **hashes}
