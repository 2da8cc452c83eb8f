"""Where a model or tokenizer lies: a folder, or a repository of the Hugging Face hub, fetched if need be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gemmule.base.errors import RequestError, first_line

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
INDEX = "model.safetensors.index.json"  # of a folder's weights, where they lie in several files


def find_folder(source: str | Path, patterns: Sequence[str], *, download: bool = True) -> Path:
    """`source` itself if it is a folder; else the copy of the hub repository "owner/name", of the files in `patterns`.

    Without `download`, only a copy that is here already.

    Raises RequestError if it is neither, or the hub does not give it.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise RequestError(
            f"{source}: a file; a folder or a hub id is needed (gemmule import makes a folder of a GGUF)"
        )
    if isinstance(source, Path) or not HUB_ID.fullmatch(source):
        raise RequestError(f"{source}: no such folder")
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(source, allow_patterns=list(patterns), local_files_only=not download)
        )
    except Exception as error:  # offline, refused, unknown: its errors share no narrower ancestor
        raise RequestError(
            f"{source}: no such folder here, and could not be downloaded from the hub ({first_line(error)})"
        ) from error


def pickle_hint(folder: Path) -> str:
    """What to do with a folder whose weights are a pickle; empty where it has none."""
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in folder.glob(pattern))
    if not pickles:
        return ""
    return (
        f"its weights are a pickle ({pickles[0]}), which can run code and is never read. Convert it, if you trust it: "
        f"python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{folder}')"
        f".save_pretrained('{folder}-safetensors')\", and copy its tokenizer files"
    )
