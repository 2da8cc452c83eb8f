"""Writes a model as a GGUF file, as llama.cpp and Ollama read it, with tokenizer and chat template.

The package `gguf` writes the file and quantises, a tensor at a time. Norms stay float32. Of a quantised type only
matrices can be whose rows are multiples of its block; the others become f16, as in llama.cpp's own quantiser.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType
from gguf.quants import quantize
from torch import Tensor

from gemmule.base.errors import WorkError
from gemmule.convert.file_types import FILE_TYPES
from gemmule.convert.gguf_names import (
    ARCHITECTURE,
    NO_CAP,
    NORMS,
    QUERY_SCALE,
    is_norm,
    is_query,
    query_factor,
    to_gguf,
)
from gemmule.convert.gguf_tokenizer import add_tokenizer
from gemmule.model.config import EMBEDDING, Gemma2Config
from gemmule.model.weights import Checkpoint
from gemmule.tokenize.tokenizer import Tokenizer


class Planned(NamedTuple):
    """A tensor of the file to be."""

    name: str  # ours
    shape: list[int]
    kind: Type


def plan_tensors(config: Gemma2Config, wanted: str) -> list[Planned]:
    """What each tensor will be stored as in a file of the type `wanted`."""
    kind = FILE_TYPES[wanted]

    def choose(name: str, shape: list[int]) -> Type:
        if is_norm(name):
            return Type.F32
        chosen = Type[kind.embedding if name == EMBEDDING else kind.matrices]
        return Type.F16 if shape[-1] % gguf.GGML_QUANT_SIZES[chosen][0] else chosen

    return [Planned(name, shape, choose(name, shape)) for name, shape in config.parameter_shapes.items()]


def write_gguf(
    checkpoint: Checkpoint, tokenizer: Tokenizer, chat_template: str | None, name: str, wanted: str, file: Path
) -> None:
    """Writes `file`, of the type `wanted` (a name of FILE_TYPES), for a model called `name`.

    Raises WorkError where a weight is too large for the type, or the file can't be written.
    """
    config = checkpoint.config
    writer = gguf.GGUFWriter(file, ARCHITECTURE)
    writer.add_name(name)
    writer.add_file_type(LlamaFileType[FILE_TYPES[wanted].file])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_config(writer, config)
    add_tokenizer(writer, tokenizer, config.vocabulary_size, chat_template)
    tensors = plan_tensors(config, wanted)
    norms = [torch.cat(list(checkpoint.rows(tensor.name))).tolist() for tensor in tensors if is_norm(tensor.name)]
    writer.add_array(NORMS, list(itertools.chain(*norms)))
    for name, shape, kind in tensors:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        in_bytes = int(np.prod(shape, dtype=np.int64)) // block * size
        writer.add_tensor_info(to_gguf(name), shape, np.dtype(np.float32), in_bytes, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(_encode(tensor, checkpoint.rows(tensor.name), query_factor(config)))
    finally:
        writer.close()


def _add_config(writer: gguf.GGUFWriter, config: Gemma2Config) -> None:
    writer.add_vocab_size(config.vocabulary_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ffn_width)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_sliding_window(config.window)
    writer.add_attn_logit_softcapping(config.attention_cap or NO_CAP)
    writer.add_final_logit_softcapping(config.final_cap or NO_CAP)
    writer.add_uint32(QUERY_SCALE, int(config.query_scale or config.head_dim))


def _encode(tensor: Planned, rows: Iterator[Tensor], factor: float) -> np.ndarray:
    """A tensor in the bytes of its type, from our rows."""
    pieces = []
    for piece in rows:
        piece = piece.float()
        if is_norm(tensor.name):
            piece = piece + 1
        elif is_query(tensor.name) and factor != 1:
            piece = piece * factor
        if tensor.kind == Type.F16 and piece.abs().max() > torch.finfo(torch.float16).max:
            raise WorkError(f"{tensor.name}: a weight of {piece.abs().max():.0f} is too large for f16; try bf16")
        pieces.append(quantize(piece.numpy(), tensor.kind))
    return np.concatenate(pieces)
