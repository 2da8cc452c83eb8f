"""Files beneath a folder, or those that a glob matches: each folder walked once, and links no further than they may.

Hidden files and folders are left out, as globs leave them out, and so are gemmule's own run folders beneath, whose
documents and metrics are no source. A link that stays within the named folder is followed; one that leaves it is
followed where the recipe says so (`data.follow_links`), else left out, and told.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gemmule.base.locks import LOCK
from gemmule.base.run_folder import RECIPE, is_run


@dataclass
class Search:
    """A folder that a pattern names, which files are `wanted` (by their names), and what was left out of it."""

    folder: Path
    wanted: Callable[[Path], bool]
    follow_links: bool
    left: dict[Path, str] = field(default_factory=dict)  # a link -> where it leads

    def __post_init__(self) -> None:
        self._real = os.path.realpath(self.folder)

    def files(self) -> Iterator[Path]:
        """All that lie beneath."""
        for root, names in self._walk(self.folder):
            yield from (path for name in names if self.wanted(path := root / name) and self._may(path))

    def matches(self, parts: tuple[str, ...], folder: Path | None = None, folders: bool = False) -> Iterator[Path]:
        """The files beneath that match a glob, given in its parts (`**`: any number of folders); `folders` too."""
        folder = folder or self.folder
        if "**" not in parts:
            paths = (folder / name for name in glob.iglob(os.path.join(*parts), root_dir=folder))
            yield from (
                path for path in paths if self.wanted(path) and (folders or not path.is_dir()) and self._may(path)
            )
            return
        place = parts.index("**")
        heads = [folder / name for name in glob.iglob(os.path.join(*parts[:place], ""), root_dir=folder)]
        rest = parts[place:]
        while rest[:1] == ("**",):
            rest = rest[1:]
        for head in heads if place else [folder]:
            if self._may(head):
                for root, _ in self._walk(head):
                    yield from self.matches(rest or ("*",), root, folders)

    def _walk(self, start: Path) -> Iterator[tuple[Path, list[str]]]:
        """Each folder from `start` on with its files: first by their own names, then those that only links lead to."""
        waiting, seen = [start], set[str]()
        while waiting:
            links: list[Path] = []
            for top in waiting:
                for root, folders, names in os.walk(top, onerror=_refuse):
                    if (real := os.path.realpath(root)) in seen or (Path(root) != start and _is_run(Path(root), names)):
                        folders.clear()
                        continue
                    seen.add(real)
                    folders[:] = sorted(name for name in folders if not name.startswith("."))
                    links += [path for name in folders if (path := Path(root, name)).is_symlink()]
                    yield Path(root), [name for name in names if not name.startswith(".")]
            waiting = [link for link in links if self._may(link) and os.path.realpath(link) not in seen]

    def _may(self, path: Path) -> bool:
        """Whether a path lies in the folder, whatever links lead to it; if not, and that is asked, it is noted."""
        real = os.path.realpath(path)
        if self.follow_links or _within(real, self._real):
            return True
        parents = [path, *path.parents]
        inside = next((n for n, parent in enumerate(parents) if _within(os.path.realpath(parent), self._real)), 1)
        link = parents[max(0, inside - 1)]
        self.left[link] = os.path.realpath(link)
        return False


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_run(folder: Path, names: list[str]) -> bool:
    return RECIPE in names and (LOCK in names or is_run(folder))


def _refuse(error: OSError) -> None:
    raise error  # os.walk would pass over what it may not read
