"""Where what a recipe names from outside lies, and what it is known by: the contents of its files, or its address.

Hashes of files are kept in the run folder, so that a file that did not change is not read again.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gemmule.base import artifact
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.run_folder import FINGERPRINTS, RECIPE
from gemmule.refine import sources
from gemmule.teach.teachers.kinds import WEIGHTS, Kind, kind_of


class Origin(NamedTuple):
    """Something from outside."""

    place: Path | str  # its folder or file, which may be gone; or its hub id or address
    identity: str
    kind: Kind | None  # of a model; None while that can't be told


class Origins:
    """Finds what a recipe names. `base` is the recipe's folder, `out` the run's."""

    def __init__(self, base: Path, out: Path, fingerprints: Mapping[str, Any]) -> None:
        self.base, self.out = base, out
        self.fingerprints = _read_fingerprints(out / FINGERPRINTS) | dict(fingerprints)

    def locate(self, path: str) -> Path:
        return located(path, self.base)

    def kind(self, origin: str) -> Kind | None:
        """Of a model; None while that can't be told: of the hub, or of what is not there or can't be read."""
        try:
            return kind_of(origin) or kind_of(self.locate(origin))
        except RequestError:
            return None

    def find(self, origin: str, key: str, made: Path, patterns: Iterable[str] | None = None) -> Origin:
        """By its files of these patterns, or those that a model of its kind is known by; `made` is its step's place.

        Raises RequestError where there is nothing, or not what `key` is to name.
        """
        if (kind := kind_of(origin)) is not None:  # by its address
            return Origin(origin, kind.identify(origin, key), kind)
        kind, place = self.kind(origin), self.locate(origin)
        if place.is_dir():
            patterns = patterns or (WEIGHTS if kind is None else kind.files)
            if not (files := model_files(place, patterns)):
                raise RequestError(f"{key} = {origin!r}: {place} has no {' or '.join(patterns)}")
            return Origin(place, self.digest(files), kind)
        if place.is_file():
            if kind is None:
                raise RequestError(f"{key} = {origin!r}: not a GGUF file; name a folder, a GGUF file or a hub id")
            return Origin(place, self.digest(model_files(place)), kind)
        if (recorded := self._recorded(key, place, made)) is not None:
            return Origin(place, recorded, None)  # gone since, which matters once it is loaded again
        if origin.count("/") != 1 or origin.startswith((".", "/", "~")):
            raise RequestError(f"{key} = {origin!r}: no such folder or file (looked in {self.base})")
        return Origin(origin, f"hub: {origin}", None)

    def _recorded(self, key: str, place: Path, made: Path) -> str | None:
        """What identified the files that this run began with, if it is `place` where they were."""
        try:
            began = tomllib.loads((self.out / RECIPE).read_text(encoding="utf-8"))
            named = [section.get("from") for section in (began["tokenizer"], *began["models"].values())]
            return str(artifact.read(made).settings[key]) if str(place) in named else None
        except (OSError, ValueError, KeyError, AttributeError, WorkError):
            return None

    def digest(self, files: Sequence[sources.SourceFile]) -> str:
        return digest(files, self.fingerprints)


def located(path: str, base: Path) -> Path:
    """Where a path of a recipe in the folder `base` lies, which may be nothing, or a hub id's."""
    return base / Path(path).expanduser()


def digest(files: Sequence[sources.SourceFile], known: dict[str, Any]) -> str:
    """Identifies files by their contents, and how they are read, whatever their names: "42 files, 5212345 bytes, sha256
    0123...".

    `known`: fingerprints by path, looked into and added to, so that a file that did not change is not read again.
    """
    whole, size = hashlib.sha256(), 0
    keys = [sources.printable(file.path.resolve()) for file in files]
    found = sources.fingerprints(files, [known.get(key) for key in keys])
    for file, key, fingerprint in zip(files, keys, found, strict=True):
        known[key] = fingerprint
        whole.update(fingerprint["sha256"].encode())
        whole.update(_how(file).encode())
        size += fingerprint["size"]
    return f"{len(files)} file{'' if len(files) == 1 else 's'}, {size} bytes, sha256 {whole.hexdigest()[:16]}"


def _how(file: sources.SourceFile) -> str:
    """In what way it is read, where not all of it is, once."""
    weight = f" x {file.weight!r}" if file.weight != 1 else ""
    return weight + (f" {file.only!r} {file.without!r}" if file.only or file.without else "")


def model_files(place: Path, patterns: Iterable[str] = WEIGHTS) -> list[sources.SourceFile]:
    """The files that an outside model is known by: those in its folder, or itself, where it is a GGUF file."""
    paths = sorted(path for pattern in patterns for path in place.glob(pattern)) if place.is_dir() else [place]
    return [sources.SourceFile(path, str(path)) for path in paths]


def _read_fingerprints(path: Path) -> dict[str, Any]:
    """Hashes of large files, kept so that they are not read again; worth nothing if damaged."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
