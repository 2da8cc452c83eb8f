"""Reads and writes a model as a Hugging Face folder: config.json and safetensors, whole or sharded.

- Parameter names are Hugging Face's own, so nothing is mapped; the head is tied and not stored.
- Names, shapes and types are checked from the files' headers before any weight is read.
- Only safetensors: a pickle could run code. What is read is copied, so that the file may change afterwards.
- The bytes written depend on the weights alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gemmule.artifact import write_json
from gemmule.errors import RequestError, WorkError
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"
TIED_HEAD = "lm_head.weight"  # some tools store the embedding a second time under this name
STORED_TYPES = ("F32", "BF16", "F16")


def load(source: str | Path, device: torch.device | str = "cpu") -> Gemma2:
    """The model in the folder or under the hub id `source`, in float32 and eval mode, on `device`.

    Raises RequestError where `source` is no Gemma 2 model, WorkError where its files are damaged.
    """
    folder = find_folder(source)
    config = read_config(folder)
    with torch.device("meta"):  # shapes only: the weights come from the files
        model = Gemma2(config)
    expected = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    files = _locate(folder, expected)
    weights: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        with _open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                weights[name] = tensors.get_tensor(name).to(device, torch.float32, copy=True)
    if TIED_HEAD in weights and not torch.equal(weights.pop(TIED_HEAD), weights[EMBEDDING]):
        raise RequestError(f"{folder}: {TIED_HEAD} differs from {EMBEDDING}; Gemma 2 ties the two")
    model.load_state_dict(weights, assign=True)
    return model.eval()


def save(model: Gemma2, folder: Path) -> None:
    """Writes config.json, generation_config.json and model.safetensors into `folder`, made if absent.

    Raises WorkError naming the path that can't be written.
    """
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    dtype = str(weights[EMBEDDING].dtype).removeprefix("torch.")
    settings = model.config.to_huggingface() | {"dtype": dtype, "torch_dtype": dtype}
    control = {name: settings[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, settings)
        write_json(folder / "generation_config.json", control)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})  # transformers 4 insists on the metadata
    except (OSError, SafetensorError) as error:
        raise WorkError(f"{folder}: the model can't be written: {error}") from error


def find_folder(source: str | Path) -> Path:
    """`source` itself if it is a folder; else the copy of the hub repository of that name, fetched if need be."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise RequestError(f"{source}: a file; a model is a folder with {CONFIG} and {WEIGHTS}")
    if isinstance(source, Path) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source):
        raise RequestError(f"{source}: no such folder")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # offline, refused, unknown: the client has a dozen ways to say it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RequestError(f"{source}: no such folder here, and not to be had from the hub: {reason}") from error


def read_config(folder: Path) -> Gemma2Config:
    """The configuration in `folder`. Raises RequestError where there is none or it is no Gemma 2."""
    settings = _read_json(folder / CONFIG)
    try:
        return Gemma2Config.from_huggingface(settings)
    except RequestError as error:
        raise RequestError(f"{folder}: {error}") from None


def _locate(folder: Path, expected: dict[str, list[int]]) -> dict[str, Path]:
    """Where each tensor lies, having checked that exactly the expected ones are there with the expected shapes."""
    found: dict[str, Path] = {}
    for file in _weight_files(folder):
        with _open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                if name in found:
                    raise RequestError(f"{file}: {name} is in {found[name].name} too")
                found[name] = file
                header = tensors.get_slice(name)
                shape, dtype = header.get_shape(), header.get_dtype()
                wanted = expected[EMBEDDING] if name == TIED_HEAD else expected.get(name)
                if wanted is None:
                    raise RequestError(f"{file}: {name} is no tensor of the Gemma 2 that {CONFIG} describes")
                if shape != wanted:
                    raise RequestError(f"{file}: {name} has shape {shape}; {CONFIG} says {wanted}")
                if dtype not in STORED_TYPES:
                    raise RequestError(f"{file}: {name} is stored as {dtype}; {', '.join(STORED_TYPES)} can be read")
    missing = [name for name in expected if name not in found]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RequestError(f"{folder}: the weights lack {missing[0]}{others}")
    return found


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise RequestError(f"{folder}: has no {WEIGHTS}; weights in other formats are not read")
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
        raise RequestError(f"{file.parent}: has no {file.name}, so it is no model folder") from None
    except (OSError, ValueError) as error:
        raise WorkError(f"{file}: can't be read: {error}") from error
    if not isinstance(value, dict):
        raise WorkError(f"{file}: not a JSON object")
    return value
