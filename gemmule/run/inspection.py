"""`gemmule inspect`: what an artifact is, from what it was made, and whether it is still as it was written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmule.base import artifact
from gemmule.base.artifact import MANIFEST, Artifact
from gemmule.base.errors import RequestError


@dataclass(frozen=True)
class Inspected:
    """One artifact, verified."""

    path: str
    kind: str
    hash: str
    format_version: int
    files: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    inputs: dict[str, str]
    ancestry: dict[str, dict[str, Any]]
    versions: dict[str, str | None]


def inspect_path(path: Path) -> list[Inspected]:
    """The artifact at `path`, or every one beneath it (a run folder), each verified by its hashes.

    Raises RequestError if there is none, WorkError naming the first file that is not as it was written.
    """
    if not path.is_dir():
        raise RequestError(f"{path}: no such folder")
    folders = [path] if (path / MANIFEST).exists() else sorted(file.parent for file in path.rglob(MANIFEST))
    if not folders:
        raise RequestError(f"{path}: neither an artifact nor a run folder: no {MANIFEST} in it or beneath it")
    return [_inspect(artifact.read(folder)) for folder in folders]


def _inspect(found: Artifact) -> Inspected:
    artifact.verify(found)
    return Inspected(path=str(found.path), hash=found.hash, **found.manifest.__dict__)


def describe(found: list[Inspected]) -> str:
    """For reading: in full for one artifact, a line each for several."""
    if len(found) == 1:
        return _describe_one(found[0])
    lines = [f"{entry.kind:11} {entry.hash[:12]}  verified, {_size(entry):>9}  {entry.path}" for entry in found]
    return "\n".join(lines)


def _describe_one(entry: Inspected) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in entry.versions.items() if version)
    lines = [
        f"{entry.path}: {entry.kind}, format {entry.format_version}, {_size(entry)} in {len(entry.files)} files",
        f"  content   {entry.hash}",
        "  verified  every file is as it was written",
        f"  made by   {versions}",
        "  settings",
        *(f"    {key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.settings.items()),
    ]
    if entry.inputs:
        lines += ["  made from", *_ancestors(entry.inputs, entry.ancestry, 2, set())]
    return "\n".join(lines)


def _ancestors(inputs: dict[str, str], ancestry: dict[str, dict[str, Any]], depth: int, told: set[str]) -> list[str]:
    """The tree of what something was made from; what was told already is only named."""
    lines = []
    for role, key in inputs.items():
        entry = ancestry.get(key, {"kind": "unknown", "settings": {}, "inputs": {}})
        again = " (as above)" if key in told else ""
        lines.append(f"{'  ' * depth}{role}: {entry['kind']} {key[:12]}{again}")
        if key in told:
            continue
        told.add(key)
        lines += [f"{'  ' * (depth + 2)}{name} = {json.dumps(value, ensure_ascii=False)}"
                  for name, value in entry["settings"].items()]  # fmt: skip
        lines += _ancestors(entry["inputs"], ancestry, depth + 1, told)
    return lines


def _size(entry: Inspected) -> str:
    size = float(sum(file["size"] for file in entry.files.values()))
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
