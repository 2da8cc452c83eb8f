"""The types that exported models can have, by name. No torch here: the command line's help lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}  # of a Hugging Face folder: PyTorch's names


class FileType(NamedTuple):
    """A type of GGUF file, in the names of the package `gguf`."""

    matrices: str  # GGMLQuantizationType
    embedding: str  # the same; it is the head too, which llama.cpp's own quantiser spares likewise
    file: str  # LlamaFileType


FILE_TYPES = {
    "f32": FileType("F32", "F32", "ALL_F32"),
    "f16": FileType("F16", "F16", "MOSTLY_F16"),
    "bf16": FileType("BF16", "BF16", "MOSTLY_BF16"),
    "q8_0": FileType("Q8_0", "Q8_0", "MOSTLY_Q8_0"),
    "q4_0": FileType("Q4_0", "Q8_0", "MOSTLY_Q4_0"),
}
TYPES_OF: dict[str, Mapping[str, object]] = {"hf": DTYPES, "gguf": FILE_TYPES}  # each format's
ONLY_GGUF = [name for name in FILE_TYPES if name not in DTYPES]
HELP = f"{', '.join(DTYPES)}; gguf also {', '.join(ONLY_GGUF)}; default: the model's"
