"""`gemmule export`: a model folder for other programs.

`hf` writes a folder that transformers and vLLM open, in another type if wanted; `gguf` a file for llama.cpp and Ollama.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemmule.base.artifact import refuse_existing, unused_name, verify_folder, writing
from gemmule.base.errors import RequestError, WorkError
from gemmule.convert.file_types import FILE_TYPES, TYPES_OF
from gemmule.convert.folder import TYPES, Written, check_vocabulary, find_source, publish_folder, type_of
from gemmule.convert.gguf_names import query_factor, require_gguf, to_gguf
from gemmule.model import weights
from gemmule.model.weights import Checkpoint
from gemmule.tokenize.tokenizer import Tokenizer, load_tokenizer


def export_model(model: str | Path, out: Path, format: str, type: str | None = None) -> Written:
    """Writes `model`, a folder or hub id, to `out`: a folder ("hf") or a file ("gguf").

    `type` is that of the matrices; the checkpoint's own if left out.

    Raises RequestError before anything is written for what can't be done, WorkError where the work fails; then nothing
    is left behind.
    """
    if format not in TYPES_OF:
        raise RequestError(f"format {format!r}: there are {' and '.join(TYPES_OF)}")
    if type is not None and type not in TYPES_OF[format]:
        raise RequestError(f"type {type!r}: {format} holds {', '.join(TYPES_OF[format])}")
    refuse_existing(out)
    folder = find_source(model)
    verify_folder(folder)
    checkpoint = weights.open_folder(folder)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(model, checkpoint.config.vocabulary_size, tokenizer)
    kind = type or type_of(checkpoint)
    if format == "gguf":
        return _export_gguf(checkpoint, tokenizer, folder, kind, out)
    settings = {"export.format": format, "export.type": kind}
    return publish_folder(out, _cast(checkpoint, TYPES[kind]), tokenizer, folder, settings)


def _cast(checkpoint: Checkpoint, dtype: torch.dtype) -> Checkpoint:
    """The same weights, in `dtype` as they are read."""

    def rows(name: str) -> Iterator[Tensor]:
        for piece in checkpoint.rows(name):
            cast = piece.to(dtype)
            if cast.isinf().any() and not piece.isinf().any():
                raise WorkError(f"{name}: a weight of {piece.abs().max():.0f} is too large for {dtype}; try bf16")
            yield cast

    return replace(checkpoint, dtypes=dict.fromkeys(checkpoint.dtypes, dtype), rows=rows)


def _export_gguf(checkpoint: Checkpoint, tokenizer: Tokenizer, folder: Path, kind: str, out: Path) -> Written:
    require_gguf()
    from gemmule.convert.gguf_tokenizer import check_exportable
    from gemmule.convert.gguf_write import plan_tensors, write_gguf

    check_exportable(tokenizer)
    config = checkpoint.config
    if config.attention != "alternating":
        raise RequestError(
            f"{folder.name}: attention = {config.attention!r}: llama.cpp's Gemma 2 always alternates local and global "
            "layers, so a GGUF file can't hold this model; export it with --format hf"
        )
    with _written_whole(out) as file:
        write_gguf(checkpoint, tokenizer, _chat_template(folder), folder.name, kind, file)
    spared = [tensor for tensor in plan_tensors(config, kind) if tensor.kind.name == "F16" != FILE_TYPES[kind].matrices]
    notes = []
    if spared:
        names = ", ".join(to_gguf(tensor.name) for tensor in spared)
        notes.append(f"kept in f16, because their rows are not multiples of the type's blocks of 32: {names}")
    if query_factor(config) != 1:
        notes.append(f"attn_q holds the query scale, which llama.cpp does not read: times {query_factor(config):.6g}")
    off = [cap for cap in ("attention_cap", "final_cap") if getattr(config, cap) is None]
    if off:
        notes.append(f"{' and '.join(off)} off: written as caps too large to matter, because llama.cpp always caps")
    if tokenizer.inner.normalizer is not None and "NFC" in repr(tokenizer.inner.normalizer):
        notes.append(
            "its tokenizer composes characters first (NFC), which llama.cpp does not: e + U+0301 differs there"
        )
    unused = config.vocabulary_size - tokenizer.vocabulary_size
    if unused:
        notes.append(f"{unused} rows are beyond its tokenizer: marked as unused and never sampled")
    return Written(str(out), config.parameters, kind, out.stat().st_size, notes)


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """Gives a temporary file to write, which becomes `out` when that is done."""
    temporary = unused_name(out)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.rename(out)
        finally:
            temporary.unlink(missing_ok=True)


def _chat_template(folder: Path) -> str | None:
    """The chat template beside a tokenizer: in a file of its own (transformers 5), or in tokenizer_config.json."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    try:
        settings: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise WorkError(f"{folder / 'tokenizer_config.json'}: can't be read: {error}") from error
    template = settings.get("chat_template")
    return template if isinstance(template, str) else None
