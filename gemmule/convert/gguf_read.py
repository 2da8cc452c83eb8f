"""Opens a GGUF file of architecture gemma2: its configuration, and its weights as they lie.

The package `gguf` reads the file and dequantises (f32, f16, bf16, q8_0, q4_0, the K types and whatever else it knows).
What it doesn't do is distrust: so every read is held against the file's end, and every count against what a file can
hold, before memory is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from torch import Tensor

from gemmule.base.errors import RequestError, WorkError, first_line
from gemmule.convert.gguf_names import (
    ARCHITECTURE,
    NO_CAP,
    NORMS,
    QUERY_SCALE,
    from_gguf,
    is_norm,
    is_query,
    query_factor,
    query_scale_of_llama_cpp,
)
from gemmule.model.config import EMBEDDING, Gemma2Config
from gemmule.model.weights import TIED_HEAD, Checkpoint, check_finite, check_tensors, row_ranges
from gemmule.tokenize.tokenizer import LARGEST_VOCABULARY

DTYPES = {Type.F32: torch.float32, Type.F16: torch.float16, Type.BF16: torch.bfloat16}
# Our field, GGUF's key below "gemma2.", and what llama.cpp takes where it is left out (None: it must be there).
FIELDS: tuple[tuple[str, str, Any], ...] = (
    ("layers", "block_count", None),
    ("width", "embedding_length", None),
    ("heads", "attention.head_count", None),
    ("kv_heads", "attention.head_count_kv", None),
    ("ffn_width", "feed_forward_length", None),
    ("context_length", "context_length", None),
    ("norm_epsilon", "attention.layer_norm_rms_epsilon", None),
    ("window", "attention.sliding_window", 4096),
    ("attention_cap", "attn_logit_softcapping", 50.0),
    ("final_cap", "final_logit_softcapping", 30.0),
    ("rope_base", "rope.freq_base", 10000.0),
)


class Reader(gguf.GGUFReader):
    """gguf's reader, which takes a read past the end for an empty one, and a count for what it says."""

    def _get(self, offset: int, dtype: Any, count: Any = 1, *order: Any, **named: Any) -> Any:
        if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
            raise ValueError("it is shorter than its header says")
        return super()._get(offset, dtype, count, *order, **named)

    def _get_field_parts(self, orig_offs: int, raw_type: Any) -> Any:
        if raw_type == gguf.GGUFValueType.ARRAY:
            entries = int(self._get(orig_offs + 4, np.uint64)[0])  # behind the type of its entries
            if entries > LARGEST_VOCABULARY:  # of which no array has more
                raise ValueError(f"an array of {entries} entries")
        return super()._get_field_parts(orig_offs, raw_type)


def read_header(file: Path) -> tuple[Reader, str | None]:
    """The file's metadata, and the architecture that it says it holds.

    Raises RequestError if it is no GGUF file, WorkError if it is damaged.
    """
    with file.open("rb") as start:
        if start.read(4) != b"GGUF":
            raise RequestError(f"{file}: not a GGUF file")
    try:
        reader = Reader(file)
        return reader, value(reader, "general.architecture")
    except Exception as error:  # gguf trusts its file: any of Python's errors can come of a damaged one
        raise WorkError(f"{file}: damaged or cut short ({first_line(error)})") from error


def open_reader(file: Path) -> Reader:
    """The file's metadata and tensors, none of them read yet.

    Raises RequestError if it is no GGUF file or holds another architecture than gemma2, WorkError if it is damaged.
    """
    reader, architecture = read_header(file)
    check_places(file, reader)
    if architecture != ARCHITECTURE:
        raise RequestError(f"{file}: its architecture is {architecture!r}; only {ARCHITECTURE!r} can be read")
    if reader.byte_order != "I":
        raise RequestError(f"{file}: has the wrong byte order (big-endian)")
    parts = value(reader, "split.count", 1)
    if parts != 1:
        raise RequestError(f"{file}: one of {parts} parts; join them with llama-gguf-split --merge")
    return reader


def check_places(file: Path, reader: Reader) -> None:
    """Raises WorkError naming a tensor that lies where none can: in the header, over another, beyond the file's end."""
    end, before = int(reader.data_offset), "the header"
    for tensor in sorted(reader.tensors, key=lambda tensor: int(tensor.data_offset)):
        start = int(tensor.data_offset)
        if start < end or start % reader.alignment or start + int(tensor.n_bytes) > len(reader.data):
            raise WorkError(f"{file}: damaged: {tensor.name} has an impossible offset, after {before}")
        end, before = start + int(tensor.n_bytes), tensor.name


def value(reader: Reader, key: str, default: Any = None) -> Any:
    """A value of the metadata. A float32 comes as the shortest decimal that rounds to it."""
    field = reader.get_field(key)
    if field is None:
        return default
    if field.types == [gguf.GGUFValueType.FLOAT32]:
        return float(str(field.parts[-1][0]))  # 1e-06, where float() gives 9.999999974752427e-07
    try:
        return field.contents()
    except UnicodeDecodeError as error:
        raise WorkError(f"{reader.data.filename}: damaged: {key} is not text ({error})") from error


def open_gguf(file: Path, reader: Reader) -> Checkpoint:
    """The weights in a GGUF file, as a model of Hugging Face's has them. Nothing is read before it is asked for.

    Matrices keep their type, quantised ones become float32; norms are float32.

    Raises RequestError where its tensors are not those of the Gemma 2 that it describes.
    """
    stored = {from_gguf(tensor.name): tensor for tensor in reader.tensors}
    head = stored.pop(TIED_HEAD, None)
    if head is not None:
        stored.setdefault(EMBEDDING, head)
        if stored[EMBEDDING].tensor_type != head.tensor_type or not np.array_equal(stored[EMBEDDING].data, head.data):
            raise RequestError(f"{file}: {head.name} differs from {stored[EMBEDDING].name}; Gemma 2 ties the two")
    shapes = {name: [int(size) for size in reversed(tensor.shape)] for name, tensor in stored.items()}
    config = _read_config(file, reader, shapes)
    check_tensors(file, config, shapes)
    for name, tensor in stored.items():
        _check_type(file, name, tensor)
    factor = query_factor(config)
    norms = _own_norms(reader, config)

    def rows(name: str) -> Iterator[Tensor]:
        for start, stop in row_ranges(shapes[name]):
            piece = check_finite(file, stored[name].name, _numbers(stored[name], start, stop))
            if is_norm(name):
                piece = piece.float()
                own = norms[name][start:stop] if name in norms else piece - 1
                piece = torch.where(own + 1 == piece, own, piece - 1)  # unless someone changed the file since
            elif is_query(name) and factor != 1:
                piece = (piece.float() / factor).to(piece.dtype)
            yield piece

    dtypes = {
        name: torch.float32 if is_norm(name) else DTYPES.get(tensor.tensor_type, torch.float32)
        for name, tensor in stored.items()
    }
    ids = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
    control = {ours: value(reader, f"tokenizer.ggml.{theirs}") for ours, theirs in ids.items()}
    return Checkpoint(config, dtypes, rows, {name: id for name, id in control.items() if isinstance(id, int)})


def _read_config(file: Path, reader: Reader, shapes: dict[str, list[int]]) -> Gemma2Config:
    fields: dict[str, Any] = {}
    for ours, key, default in FIELDS:
        fields[ours] = value(reader, f"{ARCHITECTURE}.{key}", default)
        if fields[ours] is None:
            raise RequestError(f"{file}: its metadata lacks {ARCHITECTURE}.{key}")
    for cap in ("attention_cap", "final_cap"):
        if fields[cap] == NO_CAP:
            fields[cap] = None
    if EMBEDDING not in shapes or len(shapes[EMBEDDING]) != 2:
        raise RequestError(f"{file}: token_embd.weight is missing, or not a matrix")
    for key in [name for name in reader.fields if name.startswith(f"{ARCHITECTURE}.rope.scaling.")]:
        if value(reader, key) not in ("none", False, 0):
            raise RequestError(f"{file}: rotary positions scaled, {key} = {value(reader, key)!r}: none can be read")
    try:
        head_dim = value(reader, f"{ARCHITECTURE}.attention.key_length") or fields["width"] // fields["heads"]
        for key in ("attention.value_length", "rope.dimension_count"):
            if value(reader, f"{ARCHITECTURE}.{key}", head_dim) != head_dim:
                raise RequestError(f"{ARCHITECTURE}.{key} is not that of the keys, {head_dim}: it can't be read")
        config = Gemma2Config(vocabulary_size=shapes[EMBEDDING][0], head_dim=head_dim, **fields)
        own = value(reader, QUERY_SCALE, query_scale_of_llama_cpp(config))
        return replace(config, query_scale=own)
    except (RequestError, TypeError, ZeroDivisionError) as error:
        raise RequestError(f"{file}: {error}") from None


def _own_norms(reader: Reader, config: Gemma2Config) -> dict[str, Tensor]:
    """The weights of the norms as they were before 1 was added, in a file of gemmule's; else nothing."""
    names = [name for name in config.parameter_shapes if is_norm(name)]
    weights = torch.tensor(value(reader, NORMS, []), dtype=torch.float32)
    sizes = [config.width] * len(names)
    return dict(zip(names, weights.split(sizes), strict=True)) if len(weights) == sum(sizes) else {}


def _check_type(file: Path, name: str, tensor: Any) -> None:
    kind = tensor.tensor_type
    if is_norm(name) and kind not in DTYPES:
        raise RequestError(f"{file}: {tensor.name} is stored as {kind.name}; norms are never quantised")
    try:
        dequantize(np.zeros(gguf.GGML_QUANT_SIZES[kind][1], np.uint8), kind)  # one block
    except NotImplementedError:
        raise RequestError(f"{file}: {tensor.name} is stored as {kind.name}, which gguf can't dequantise") from None


def _numbers(tensor: Any, start: int, stop: int) -> Tensor:
    """Rows of a tensor, copied out of the file."""
    kind, data = tensor.tensor_type, tensor.data
    if kind == Type.BF16:  # which gguf gives as bytes
        return torch.from_numpy(data.view(np.int16)[start:stop].copy()).view(torch.bfloat16)
    if kind in DTYPES:
        return torch.from_numpy(data[start:stop].copy())
    with np.errstate(all="ignore"):  # a scale that is no number is found by what it makes
        return torch.from_numpy(dequantize(data[start:stop], kind))
