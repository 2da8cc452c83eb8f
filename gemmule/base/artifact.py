"""Artifacts: the folders that every step of the flow writes.

- A folder holds `manifest.json`: its kind, format version, settings, the content hashes of its inputs, the sha256 and
  size of each of its files, and the library versions that made it.
- It is written under a temporary name and renamed when complete, so a folder that exists is whole.
- A step is skipped when the manifest in its place matches what would be made (settings, input hashes, format version,
  file sizes); what differs is told by name, and nothing is ever overwritten.
- Ancestry travels with the folder: a manifest holds a short description of everything that it was made from.

Settings are flat: dotted recipe keys and plain values, as in `{"data.sequence_length": 256}`, so that a difference
can be told in the words that the user wrote.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemmule.base.errors import RequestError, WorkError, reason
from gemmule.base.hashing import sha256_files

MANIFEST = "manifest.json"
CARD = "README.md"  # of a model
# what tells of an artifact and is no part of it: it may change, or says how long the making took
TELLING = (CARD, "refinery.json", "refinery.html")
FORMAT_VERSIONS = {"targets": 3, "tokens": 2}  # of each kind of artifact; 1 where it is not named
LIBRARIES = ("gemmule", "torch", "transformers", "tokenizers")
Settings = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and what it was made from.

    `inputs` maps a role ("tokens", "teacher") to the content hash of the artifact that played it. `ancestry` maps the
    content hash of every direct and indirect ancestor to its kind, settings and own inputs.
    """

    kind: str
    format_version: int
    settings: Settings
    inputs: dict[str, str]
    files: dict[str, dict[str, Any]]  # name within the folder -> {"sha256": ..., "size": ...}
    ancestry: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """The content hash: of the kind, the format and the files' names and bytes; not of how they came about."""
        parts = [self.kind, str(self.format_version)]
        parts += [f"{name}\0{self.files[name]['sha256']}" for name in sorted(self.files)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a descendant remembers of this artifact."""
        return {"kind": self.kind, "settings": self.settings, "inputs": self.inputs}


class Artifact:
    """A published folder and its manifest."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def hash(self) -> str:
        return self.manifest.hash

    @property
    def settings(self) -> Settings:
        return self.manifest.settings

    def __truediv__(self, name: str) -> Path:
        return self.path / name


def read(path: Path) -> Artifact:
    """Reads the artifact at `path` and checks that its files are there at their sizes.

    Raises WorkError if there is none, or if it is damaged.
    """
    manifest = _read_manifest(path)
    for name in manifest.files:
        _check_size(path, manifest, name)
    return Artifact(path, manifest)


def _read_manifest(path: Path) -> Manifest:
    manifest_path = path / MANIFEST
    try:
        fields = json.loads(manifest_path.read_text(encoding="utf-8"))
        checksum = fields.pop("checksum", None)  # those of the first versions have none
        if checksum not in (None, _checksum(fields)):
            raise ValueError("checksum mismatch")
        manifest = Manifest(**fields)
        for entry in manifest.files.values():
            entry["sha256"], entry["size"] = str(entry["sha256"]), int(entry["size"])
    except FileNotFoundError:
        raise WorkError(f"{path}: not an artifact: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkError(f"{manifest_path}: not a manifest ({error}); delete {path} to have it made again") from None
    return manifest


def _check_size(path: Path, manifest: Manifest, name: str) -> None:
    file, size = _inside(path, name), manifest.files[name]["size"]
    if not file.is_file():
        raise WorkError(f"{file}: missing; delete {path} to have it made again")
    if file.stat().st_size != size:
        raise WorkError(
            f"{file}: {file.stat().st_size} bytes where the manifest says {size}; delete {path} to have it made again"
        )


def verify(artifact: Artifact) -> None:
    """Hashes every file again. Raises WorkError naming the first one that differs."""
    _check_hashes(artifact.path, artifact.manifest, list(artifact.manifest.files))


def verify_folder(folder: Path) -> None:
    """Of a folder that is an artifact, every file; of any other, nothing. Raises WorkError naming what differs."""
    if (folder / MANIFEST).is_file():
        verify(read(folder))


def verify_files(folder: Path, names: Iterable[str], hashed_up_to: int = 2**30) -> None:
    """Of a folder that is an artifact, the files that are about to be read: sizes, and hashes of those not too large.

    Hashing takes a second or two for a gigabyte. Raises WorkError naming what is not as it was written.
    """
    if not (folder / MANIFEST).is_file():
        return
    manifest = _read_manifest(folder)
    written = [name for name in names if name in manifest.files]
    for name in written:
        _check_size(folder, manifest, name)
    _check_hashes(folder, manifest, [name for name in written if manifest.files[name]["size"] <= hashed_up_to])


def _check_hashes(path: Path, manifest: Manifest, names: Sequence[str]) -> None:
    for name, sha256 in zip(names, sha256_files([path / name for name in names]), strict=True):
        if sha256 != manifest.files[name]["sha256"]:
            raise WorkError(
                f"{path / name}: changed since it was written (sha256 differs); if you changed it yourself, "
                f"copy {path} without its {MANIFEST}"
            )


def differences(artifact: Artifact, kind: str, settings: Settings, inputs: Mapping[str, str]) -> list[str]:
    """Why `artifact` is not what these would make: one line for each setting or input that differs; empty if none."""
    manifest = artifact.manifest
    if manifest.kind != kind:
        return [f"kind: {manifest.kind} -> {kind}"]
    lines = []
    format_version = FORMAT_VERSIONS.get(kind, 1)
    if manifest.format_version != format_version:
        lines.append(f"format version: {manifest.format_version} -> {format_version}")
    settings = json.loads(json.dumps(settings))
    for key in sorted(manifest.settings.keys() | settings.keys()):
        old, new = manifest.settings.get(key), settings.get(key)
        if old != new:
            lines.append(f"{key}: {json.dumps(old, ensure_ascii=False)} -> {json.dumps(new, ensure_ascii=False)}")
    if not lines:  # changed inputs follow from changed settings above them; alone they need saying
        lines += [f"its {role} changed" for role in sorted(manifest.inputs.keys() | inputs.keys())
                  if manifest.inputs.get(role) != inputs.get(role)]  # fmt: skip
    return lines


def refuse_existing(path: Path) -> None:
    """Raises RequestError where anything is at `path`, a link to nothing included, or nothing may be written."""
    if os.path.lexists(path):
        raise RequestError(f"{path} exists already; nothing is overwritten")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raises RequestError where nothing may be written, as far as can be told before it is tried."""
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise RequestError(f"{path}: can't be written: {parent} is not a folder that you can write to")


def unused_name(path: Path) -> Path:
    """A name beside `path` for what becomes `path` when it is done; nothing of the user's has it."""
    names = (path.with_name(f".{path.name}.{number}.tmp") for number in itertools.count(os.getpid()))
    return next(name for name in names if not os.path.lexists(name))


@contextmanager
def publish(
    path: Path,
    kind: str,
    *,
    settings: Settings | None = None,
    inputs: Mapping[str, Artifact] | None = None,
    locked: bool = True,
) -> Iterator[Path]:
    """Gives a temporary folder to write into; on leaving, hashes it, writes the manifest and renames it to `path`.

    `locked`: it lies in a run folder that this process holds, so that what a dead process left there can be removed.

    When the body raises, nothing is published and the temporary folder is removed. Raises RequestError if `path` is
    taken, WorkError naming the path when the disk is full or can't be written.
    """
    refuse_existing(path)
    temporary = path.with_name(f".{path.name}.tmp") if locked else unused_name(path)
    with writing(path):
        if locked and temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            manifest = _make_manifest(temporary, kind, settings or {}, inputs or {})
            write_json(temporary / MANIFEST, manifest.__dict__ | {"checksum": _checksum(manifest.__dict__)})
            _sync_tree(temporary)
            temporary.rename(path)
            _sync(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _make_manifest(folder: Path, kind: str, settings: Settings, inputs: Mapping[str, Artifact]) -> Manifest:
    ancestry: dict[str, dict[str, Any]] = {}
    for artifact in inputs.values():
        ancestry[artifact.hash] = artifact.manifest.describe()
        ancestry.update(artifact.manifest.ancestry)
    files_there = (file for file in sorted(folder.rglob("*")) if file.is_file())
    paths = [file for file in files_there if file.relative_to(folder).as_posix() not in TELLING]
    files = {
        file.relative_to(folder).as_posix(): {"sha256": sha256, "size": file.stat().st_size}
        for file, sha256 in zip(paths, sha256_files(paths), strict=True)
    }
    roles = {role: artifact.hash for role, artifact in inputs.items()}
    return Manifest(kind, FORMAT_VERSIONS.get(kind, 1), settings, roles, files, ancestry, library_versions())


def _checksum(fields: Mapping[str, Any]) -> str:
    """Of a manifest's own fields, in whatever order."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def library_versions() -> dict[str, str | None]:
    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in LIBRARIES}


def retire(path: Path, old: Path) -> Path:
    """Moves what stands at `path` into the folder `old` under a free name, and gives that name."""
    old.mkdir(parents=True, exist_ok=True)
    stem, suffix = (path.stem, path.suffix) if path.is_file() else (path.name, "")
    number = 1
    while os.path.lexists(target := old / f"{stem}-{number}{suffix}"):
        number += 1
    path.rename(target)
    return target


def retired(old: Path, name: str) -> list[Path]:
    """What `retire` set aside under this name, the newest first."""
    found = [path for path in old.glob(f"{name}-*") if path.name.removeprefix(f"{name}-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(f"{name}-")), reverse=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within this an OSError, which knows no path where a disk is full, is a WorkError that names it and the reason."""
    try:
        yield
    except OSError as error:
        raise WorkError(f"{error.filename or path}: can't be written: {reason(error)}") from error


def to_json(value: Any, indent: int | None = None, ascii: bool = False) -> str:
    """Strict JSON, which has no NaN and no infinity: a number that is not finite is null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=ascii, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON so that a reader sees the old file or the new one, never half of either.

    Raises WorkError naming the path that can't be written.
    """
    replace_file(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A JSON file; what is no text in a file's name is in it as JSON's own escapes."""
    return (to_json(value, indent=2) + "\n").encode("utf-8", "backslashreplace")


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one.

    Raises WorkError naming the path that can't be written; then the old one is there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise


def _inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused if a hostile manifest makes it lie elsewhere."""
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise WorkError(f"{folder / MANIFEST}: names a file outside its folder: {name!r}")
    return file


def _sync_tree(folder: Path) -> None:
    for entry in folder.rglob("*"):
        _sync(entry)
    _sync(folder)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
