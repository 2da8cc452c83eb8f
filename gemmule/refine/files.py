"""Which files a recipe's text is in: by patterns that name them, and patterns that leave some out.

Files of a format (`formats/`), each plain, .gz or .zst, are read wherever a file, a folder or a glob names them; or of
a folder only if it holds no such text (html and archives, which may be about it, or hold it once more), or nothing else
to read at all (csv, tsv and json, which may be settings and tables); or only where a file or a glob names them (source
code: `src/**/*.py`).
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from gemmule.base.errors import RequestError
from gemmule.refine.compressed import SUFFIXES, unreadable
from gemmule.refine.finding import Search
from gemmule.refine.formats import InFolders, by_suffix, format_of, known_format, read_in_folders
from gemmule.refine.source_file import SourceFile

BUNDLED = "gemmule:shakespeare"
BUNDLED_FOLDER = Path(__file__).parent / "shakespeare"


class MissingSource(RequestError):
    """A pattern names nothing that is there (now: it may have been, when the documents were made)."""


def resolve(
    patterns: Iterable[str],
    base: Path,
    *,
    weights: Mapping[str, float] | None = None,
    exclude: Iterable[str] = (),
    follow_links: bool = False,
    skip_empty: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> list[SourceFile]:
    """The files that `patterns` name, each once, sorted within a pattern, without those that `exclude` names.

    A pattern is a file, a folder (all files of known kinds beneath it, hidden ones left out), a glob (`**` for any
    depth), relative to `base`, or one of these in an archive ("books.zip/part one/*.txt"); or of the bundled text, all
    ("gemmule:shakespeare") or by name ("gemmule:shakespeare/hamlet.txt", "gemmule:shakespeare/*henry*"). A glob finds
    the kind that it ends in. A file has the weight of the first pattern that names it, from `weights`. Folder and glob
    leave out links that lead out of the folder that the pattern names, unless `follow_links`: `tell` is told so.

    Raises MissingSource for a pattern that names nothing, RequestError for a file of unknown kind named outright, and
    for an empty file unless `skip_empty`: then the reader counts it.
    """
    within = {pattern: inside for pattern in exclude if (inside := _in_archive(as_path(pattern), base)) is not None}
    excluded = {pattern: _excluded(as_path(pattern), base) for pattern in exclude if pattern not in within}
    idle, named = {*excluded, *within}, 0
    found: dict[tuple[str, tuple[str, ...]], SourceFile] = {}
    for pattern in patterns:
        try:
            for file in _matches(as_path(pattern), base, follow_links, tell):
                named += 1
                real = os.path.realpath(file.path)
                reasons = {
                    key for key, places in excluded.items() if _beneath(places, real, os.path.abspath(file.path))
                }
                idle -= reasons
                if reasons or (real, file.only) in found:
                    continue
                parts = {key: each.only for key, each in within.items() if os.path.realpath(each.path) == real}
                idle -= parts.keys()
                without = tuple(only for (only,) in parts.values())
                found[real, file.only] = replace(file, weight=(weights or {}).get(pattern, 1.0), without=without)
                if not skip_empty and file.path.stat().st_size == 0:
                    raise RequestError(
                        f"{file.name}: an empty file (0 bytes); leave it out by data.exclude, or all such by "
                        'data.bad_records = "skip"'
                    )
        except OSError as error:
            raise unreadable(str(error.filename or pattern), error) from None
    for pattern in sorted(idle):
        tell(f"data.exclude: {pattern!r} leaves out nothing that data.sources names")
    if named and not found:
        raise RequestError(f"data.exclude: leaves none of the {named} files that data.sources names")
    return list(found.values())


def as_path(pattern: str) -> str:
    """A pattern, which is UTF-8 in every recipe, as this system calls files: by other bytes in some locales."""
    return os.fsdecode(pattern.encode("utf-8", "surrogateescape"))


def as_text(path: str) -> str:
    """A path as a recipe has it, the other way round. Raises RequestError for one that is not UTF-8."""
    try:
        return os.fsencode(path).decode()
    except UnicodeDecodeError:
        raise RequestError(
            f"{printable(path)}: its name is not UTF-8, and a recipe can hold no other: rename it, or name its folder"
        ) from None


def absolute(pattern: str, base: Path) -> str:
    """The pattern that names the same from anywhere. A glob sign in the folder of a recipe is none.

    Raises RequestError if that is not UTF-8.
    """
    if is_bundled(pattern):
        return pattern
    place = os.path.expanduser(as_path(pattern))
    if os.path.isabs(place):
        return as_text(place)
    folder = os.path.abspath(base)
    is_glob = glob.has_magic(place) and not os.path.lexists(os.path.join(folder, place))
    return as_text(os.path.join(glob.escape(folder) if is_glob else folder, place))


def _matches(pattern: str, base: Path, follow_links: bool, tell: Callable[[str], None]) -> list[SourceFile]:
    if is_bundled(pattern):
        return _bundled(pattern)
    if not pattern:
        raise RequestError(f"'': names no file; for all files in {base} write '.'")
    pattern = os.path.expanduser(pattern)
    place = base / pattern
    if place.is_file():
        file = SourceFile(place, _shown(place, base))
        if format_of(file) is None:
            raise RequestError(f"{file.name}: a kind of file that isn't read; known: {_known()}")
        return [file]
    if (inside := _in_archive(pattern, base)) is not None:
        return [inside]
    named = ""  # the suffix that a glob ends in
    if place.is_dir():
        search = Search(place, _is_known, follow_links)
        paths = search.files()
        nothing = f"{pattern}: a folder without a file to read; known: {_known()}"
    elif glob.has_magic(pattern):
        literal, signs = _parts(pattern)
        search = Search(base / literal, _is_known, follow_links)
        paths = search.matches(signs)
        named = SourceFile(Path(pattern), pattern).suffix
        nothing = f"{pattern}: matches no file to read; known: {_known()}{_escaped_hint(pattern, base)}"
    else:
        what = "neither a file nor a folder" if place.exists() else f"no such file or folder (looked in {base})"
        raise MissingSource(f"{pattern}: {what}")
    found = [SourceFile(path, _shown(path, base)) for path in sorted(set(paths))]
    lost = [file.name for file in found if not file.path.exists()]
    there = [file for file in found if file.path.is_file()]
    files = [file for file in there if _in_folders(file) == "always" or file.suffix == named]
    others = [file for file in there if _in_folders(file) in ("instead", "alone")]
    if not files:
        levels = read_in_folders({_in_folders(file) for file in found})
        files = [file for file in others if _in_folders(file) in levels]
    passed = [file for file in others if file not in files]
    left = _left_out(pattern, search)
    if not files:
        raise MissingSource(left or nothing + (_hint(pattern, found) if place.is_dir() else ""))
    if left:
        tell(left)
    if lost:
        tell(f"{pattern}: {lost[0]} is a link that leads nowhere{_and_more(lost)}")
    if passed and place.is_dir():
        tell(
            f"{pattern}: {passed[0].name}{_and_more(passed)} left out next to texts; to read such files, name "
            f"them: {os.path.join(pattern, '**', '*' + passed[0].suffix)}"
        )
    return files


def _in_archive(pattern: str, base: Path) -> SourceFile | None:
    """The archive that a pattern names files in, as in "books.zip/part one/*.txt"; None if it is no such pattern."""
    pattern = os.path.expanduser(pattern)
    for parent in Path(pattern).parents:
        place = base / parent
        if place.is_file():
            archive = SourceFile(place, _shown(place, base), only=(str(PurePath(pattern).relative_to(parent)),))
            format = format_of(archive)
            return archive if format is not None and format.members is not None else None
    return None


def _is_known(path: Path) -> bool:
    return format_of(SourceFile(path, "")) is not None


def _in_folders(file: SourceFile) -> InFolders:
    return known_format(file).in_folders


def _known() -> str:
    """The suffixes of all formats, for messages; source code, which is read only where it is named, goes without."""
    suffixes = [suffix for suffix, format in by_suffix().items() if format.in_folders != "named"]
    return f"{', '.join(suffixes)}, each also with {' or '.join(SUFFIXES)}"


def _parts(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """The folder that a glob names, and what follows from its first sign on."""
    parts = Path(pattern).parts
    first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]), parts[first:]


def _escaped_hint(pattern: str, base: Path) -> str:
    """How to write a glob in which a name that is there has a [ in it; empty where there is none."""
    escaped = pattern.replace("[", "[[]")
    literal, signs = _parts(escaped) if "[" in pattern else (Path(), ())
    found = any(True for _ in Search(base / literal, _is_known, True).matches(signs)) if signs else False
    return f"; a [ that is part of a name is written [[], as in {escaped}" if found else ""


def _left_out(pattern: str, search: Search) -> str:
    if not search.left:
        return ""
    link, target = min(search.left.items())
    return (
        f"{pattern}: {printable(link)} leads out of the folder, to {printable(target)}, and is left out"
        f"{_and_more([*search.left])}; to read it: data.follow_links = true, or name it in data.sources"
    )


def _and_more(names: Sequence[object]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


# --- what is left out ---------------------------------------------------------------------------------------------


def _excluded(pattern: str, base: Path) -> set[str]:
    """The files and folders that a pattern of data.exclude names, links as themselves. Raises RequestError for a file
    or folder that is not there."""
    if is_bundled(pattern):
        return {os.path.realpath(file.path) for file in _bundled(pattern)}
    place = base / os.path.expanduser(pattern)
    if os.path.lexists(place) and pattern:
        paths = [place]
    elif glob.has_magic(pattern):
        literal, signs = _parts(os.path.expanduser(pattern))
        paths = list(Search(base / literal, lambda _: True, True).matches(signs, folders=True))
    else:
        raise RequestError(f"data.exclude: {pattern!r}: no such file or folder (looked in {base})")
    lexical = [os.path.abspath(path) for path in paths]
    return {
        *lexical,
        *(os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in lexical),
    }


def _beneath(places: set[str], *paths: str) -> bool:
    """Whether one of the paths, or a folder above it, is among `places`."""
    return bool(places) and any(path in places or not places.isdisjoint(_above(path)) for path in paths)


def _above(path: str) -> Iterator[str]:
    while (folder := os.path.dirname(path)) != path:
        yield folder
        path = folder


def is_bundled(pattern: str) -> bool:
    """Whether it names the bundled text, or a part of it: no path, and the same wherever the recipe lies."""
    return pattern == BUNDLED or pattern.startswith(f"{BUNDLED}/")


def _bundled(pattern: str) -> list[SourceFile]:
    wanted = pattern.removeprefix(BUNDLED).removeprefix("/") or "*"
    names = {path.name.removesuffix(".zst"): path for path in sorted(BUNDLED_FOLDER.glob("*.txt.zst"))}
    found = fnmatch.filter(names, wanted)
    if not found:
        raise MissingSource(f"{pattern}: no such text; there are: {', '.join(names)}")
    return [SourceFile(names[name], f"{BUNDLED}/{name}") for name in found]


def _hint(folder: str, found: Iterable[SourceFile]) -> str:
    """How to name the code that a folder holds the most of; empty where there is none."""
    code = Counter(file.suffix for file in found if _in_folders(file) == "named").most_common(1)
    return "".join(f"; for its {count:,} {kind} files write {folder}/**/*{kind}" for kind, count in code)


def _shown(path: Path, base: Path) -> str:
    return printable(path.relative_to(base) if path.is_relative_to(base) else path)


def printable(path: str | Path) -> str:
    """A path for messages: a file's name can be bytes that are no text, which are shown as \\xe9."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
