"""Reads and writes a model as a Hugging Face folder: config.json and safetensors, whole or sharded.

- Parameter names are Hugging Face's own, so nothing is mapped; the head is tied and not stored.
- Names, shapes and types are checked from the files' headers before any weight is read.
- A `Checkpoint` is weights that still lie in their files; they are read, and written, some rows at a time, so that a
  model passes through in little memory.
- Only safetensors: a pickle could run code. What is read is copied, so that the file may change afterwards.
- The bytes written depend on the weights alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gemmule.base import hub
from gemmule.base.artifact import verify_files, write_json, writing
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.hub import INDEX, pickle_hint
from gemmule.model.config import EMBEDDING, Gemma2Config
from gemmule.model.transformer import Gemma2

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
TIED_HEAD = "lm_head.weight"  # some tools store the embedding a second time under this name
DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
}  # that can be stored, by safetensors' name
CONTROL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
PIECE = 2**20  # numbers that are read at once, about


@dataclass(frozen=True)
class Checkpoint:
    """A whole model's weights where they lie, in files or in memory."""

    config: Gemma2Config
    dtypes: dict[str, torch.dtype]  # of every parameter: float32, bfloat16 or float16
    rows: Callable[[str], Iterator[Tensor]]  # a parameter's rows by its name, some at a time
    control: Mapping[str, Any] = field(default_factory=dict)  # config.json's ids of <bos>, <eos>, <pad>, where given

    @property
    def dtype(self) -> torch.dtype:
        """The type of the matrices; norms may be kept in another."""
        return self.dtypes[EMBEDDING]


def load(source: str | Path, device: torch.device | str = "cpu") -> Gemma2:
    """The model in the folder or under the hub id `source`, in float32 and eval mode, on `device`.

    Raises RequestError where `source` is no Gemma 2 model or holds what is no number, WorkError where its files are
    damaged or, of a folder that gemmule made, not as they were written.
    """
    folder = find_folder(source)
    checkpoint = open_folder(folder)
    verify_files(folder, [CONFIG, *(file.name for file in _weight_files(folder))])
    weights: dict[str, Tensor] = {}
    for name, shape in checkpoint.config.parameter_shapes.items():
        weight = weights[name] = torch.empty(shape, dtype=torch.float32, device=device)
        start = 0
        for piece in checkpoint.rows(name):
            weight[start : start + len(piece)] = piece
            start += len(piece)
    with torch.device("meta"):  # shapes only: the weights are there
        model = Gemma2(checkpoint.config)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def check_finite(place: str | Path, name: str, piece: Tensor) -> Tensor:
    """`piece` of the tensor `name`. Raises RequestError where it holds what is no number: no good can come of that."""
    if not piece.isfinite().all():
        raise RequestError(f"{place}: {name} holds {int((~piece.isfinite()).sum())} or more values that are not finite")
    return piece


def save(model: Gemma2, folder: Path, control: Mapping[str, int | None] = MappingProxyType({})) -> None:
    """Writes config.json, generation_config.json and model.safetensors into `folder`, made if absent.

    `control` are the ids in CONTROL_IDS, where they are others than Gemma's.

    Raises WorkError naming the path that can't be written.
    """
    write(in_memory(model.config, model.state_dict(), control), folder)


def in_memory(
    config: Gemma2Config, weights: Mapping[str, Tensor], control: Mapping[str, int | None] = MappingProxyType({})
) -> Checkpoint:
    """The weights of a whole model by their names, to be written."""
    dtypes = {name: weight.dtype for name, weight in weights.items()}
    return Checkpoint(config, dtypes, lambda name: iter([weights[name].detach()]), control)


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """As `save`, of weights that need not be in memory."""
    dtype = str(checkpoint.dtype).removeprefix("torch.")
    settings = checkpoint.config.to_huggingface() | {"dtype": dtype, "torch_dtype": dtype} | dict(checkpoint.control)
    with writing(folder / WEIGHTS):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, settings)
        write_json(folder / GENERATION_CONFIG, {name: settings[name] for name in CONTROL_IDS})
        _write_safetensors(folder / WEIGHTS, checkpoint)


def find_folder(source: str | Path) -> Path:
    """The folder `source`, or the copy of the hub repository of that name, fetched if need be."""
    return hub.find_folder(source, ("*.json", "*.safetensors"))


def read_config(folder: Path) -> Gemma2Config:
    """The configuration in `folder`. Raises RequestError where there is none or it is no Gemma 2."""
    settings = _read_json(folder / CONFIG)
    try:
        return Gemma2Config.from_huggingface(settings)
    except RequestError as error:
        raise RequestError(f"{folder}: {error}") from None


def open_folder(folder: Path) -> Checkpoint:
    """The weights in `folder`, their headers checked: exactly the parameters of its config.json, in their shapes.

    Raises RequestError where they are others, WorkError where a file is damaged.
    """
    config = read_config(folder)
    stored = _read_headers(folder)
    if EMBEDDING not in stored and TIED_HEAD in stored:
        stored[EMBEDDING] = stored.pop(TIED_HEAD)
    check_tensors(folder, config, {name: tensor.shape for name, tensor in stored.items() if name != TIED_HEAD})
    for name, tensor in stored.items():
        if tensor.dtype not in DTYPES:
            raise RequestError(f"{tensor.file}: {name} is stored as {tensor.dtype}; {', '.join(DTYPES)} can be read")

    def rows(name: str) -> Iterator[Tensor]:
        with _open(stored[name].file) as tensors:
            weight = tensors.get_slice(stored[name].name)
            for start, stop in row_ranges(stored[name].shape):
                yield check_finite(folder, stored[name].name, weight[start:stop])

    if TIED_HEAD in stored and not _same(stored[TIED_HEAD], stored[EMBEDDING], rows):
        raise RequestError(f"{folder}: {TIED_HEAD} differs from {EMBEDDING}; Gemma 2 ties the two")
    dtypes = {name: DTYPES[tensor.dtype] for name, tensor in stored.items() if name != TIED_HEAD}
    settings = _read_json(folder / CONFIG)
    return Checkpoint(config, dtypes, rows, {name: settings[name] for name in CONTROL_IDS if name in settings})


def check_tensors(place: Path, config: Gemma2Config, found: Mapping[str, list[int]]) -> None:
    """Raises RequestError naming `place` and a tensor if `found` are not the parameters of `config` in their shapes."""
    # First the number of layers: a header may claim 2^40.
    if config.layers > len(found):
        raise RequestError(f"{place}: {config.layers} layers claimed, and only {len(found)} tensors stored")
    rows = [config.vocabulary_size, config.width]
    if found.get(EMBEDDING, rows) != rows:
        raise RequestError(f"{place}: {EMBEDDING} has shape {found[EMBEDDING]}; its configuration says {rows}")
    expected = config.parameter_shapes
    for name, shape in found.items():
        if name not in expected:
            raise RequestError(f"{place}: {name} is not a tensor of the Gemma 2 that its configuration describes")
        if shape != expected[name]:
            raise RequestError(f"{place}: {name} has shape {shape}; its configuration says {expected[name]}")
    missing = [name for name in expected if name not in found]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RequestError(f"{place}: its weights are missing {missing[0]}{others}")


def row_ranges(shape: list[int]) -> Iterator[tuple[int, int]]:
    """Where to cut a parameter of `shape` into pieces of about PIECE numbers: start and end row of each."""
    step = max(1, PIECE // math.prod(shape[1:]))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


class _Stored(NamedTuple):
    """A tensor as a safetensors header describes it."""

    file: Path
    name: str
    shape: list[int]
    dtype: str


def _read_headers(folder: Path) -> dict[str, _Stored]:
    found: dict[str, _Stored] = {}
    for file in _weight_files(folder):
        with _open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                if name in found:
                    raise RequestError(f"{file}: {name} is in {found[name].file.name} too")
                header = tensors.get_slice(name)
                found[name] = _Stored(file, name, header.get_shape(), header.get_dtype())
    return found


def _same(one: _Stored, other: _Stored, rows: Callable[[str], Iterator[Tensor]]) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return all(torch.equal(a, b) for a, b in zip(rows(TIED_HEAD), rows(EMBEDDING), strict=True))


def _write_safetensors(file: Path, checkpoint: Checkpoint) -> None:
    """What safetensors' own `save_file` writes, byte for byte; but that needs all tensors in memory at once.

    The format: the header's length in eight bytes, the header (JSON), then the tensors, the widest types first.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    shapes = checkpoint.config.parameter_shapes
    order = sorted(shapes, key=lambda name: (-list(names).index(checkpoint.dtypes[name]), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers 4 insists on it
    end = 0
    for name in order:
        dtype, shape = checkpoint.dtypes[name], shapes[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": names[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for piece in checkpoint.rows(name):
                out.write(piece.cpu().contiguous().view(torch.uint8).numpy().data)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        other = pickle_hint(folder) or f"has no {WEIGHTS}; weights in other formats are not read"
        raise RequestError(f"{folder}: {other}")
    shards = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise WorkError(f"{folder / INDEX}: damaged: it has no weight_map")
    names = sorted({str(name) for name in shards.values()})
    for name in names:
        if Path(name).name != name:  # "../../elsewhere"
            raise RequestError(f"{folder / INDEX}: names a file outside its folder: {name!r}")
        if not (folder / name).is_file():
            raise WorkError(f"{folder / name}: missing; {INDEX} names it")
    return [folder / name for name in names]


@contextmanager
def _open(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:  # the header is held against the file's size on opening
        raise WorkError(f"{file}: damaged or cut short ({error})") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{file.parent}: has no {file.name}, so it is not a model folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WorkError(f"{file}: can't be read: {error}") from error
    if not isinstance(value, dict):
        raise WorkError(f"{file}: not a JSON object")
    return value
