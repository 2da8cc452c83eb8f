"""Models in GGUF files: a Gemma 2's is imported into the run, any other is read by transformers."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gemmule.convert.gguf_names import ARCHITECTURE, QUERY_SCALE, require_gguf
from gemmule.model.config import Gemma2Config
from gemmule.teach.teachers import gemma2
from gemmule.teach.teachers.kinds import IMPORTED, Kind, Needs, Record, Source
from gemmule.teach.teachers.shape import Shape, of_config, of_tensors

if TYPE_CHECKING:
    import torch

    from gemmule.recipe import Model
    from gemmule.teach.teachers.huggingface import HuggingFaceTeacher

MAGIC = b"GGUF"
HEADER = 2**16  # bytes of a file in which it is said who wrote it


class GGUFFile(Kind):
    name = "gguf"

    def recognises(self, source: Source) -> bool:
        return isinstance(source, Path) and source.is_file() and _beginning(source, len(MAGIC)) == MAGIC

    def needs(self, source: Source) -> Needs:
        if re.search(re.escape(QUERY_SCALE.encode()), _beginning(Path(source), HEADER)):  # gemmule's own
            return Needs("gguf", ("gguf",))
        return Needs("gguf,huggingface", ("gguf", "accelerate", "transformers"))

    def shape(self, source: Source, length: int, vocabulary_size: int | None = None) -> Shape:
        file = Path(source)
        header = _header(file, file.stat().st_mtime_ns)
        if isinstance(header, Gemma2Config):
            return of_config(header, length, vocabulary_size)
        tensors, layers, width = header
        return of_tensors(tensors, layers, width, length, vocabulary_size)

    def import_into(self, source: Source, folder: Path, to_start_from: bool) -> Kind:
        from gemmule.convert.importing import gguf_architecture, import_model

        if not to_start_from and gguf_architecture(Path(source)) != ARCHITECTURE:
            return self
        import_model(source, folder / IMPORTED)
        return gemma2.KIND

    def load(
        self, source: Source, device: torch.device, *, record: Record, key: str, section: Model, tokenizer: Path
    ) -> HuggingFaceTeacher:
        from gemmule.teach.teachers import huggingface

        return huggingface.load(Path(source), device)


@lru_cache(maxsize=4)  # a vocabulary of 262,144 tokens takes a while to get past
def _header(file: Path, modified: int) -> Gemma2Config | tuple[dict[str, list[int]], int, int]:
    """Of a Gemma 2 its configuration, of any other the shapes of its tensors, its layers and its width."""
    require_gguf()
    from gemmule.convert.gguf_read import open_gguf, open_reader, read_header, value  # imports torch

    reader, architecture = read_header(file)
    if architecture == ARCHITECTURE:
        return open_gguf(file, open_reader(file)).config
    tensors = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    return tensors, *(value(reader, f"{architecture}.{key}", 0) for key in ("block_count", "embedding_length"))


def _beginning(file: Path, size: int) -> bytes:
    with file.open("rb") as start:
        return start.read(size)


KIND = GGUFFile()
