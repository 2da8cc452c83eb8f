"""What a text is, before there is a recipe for it: its files, the field of its records, how much of it there is."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gemmule.base.errors import RequestError
from gemmule.base.progress import PatientMeter, say
from gemmule.base.units import plain, size
from gemmule.estimate.text import sample
from gemmule.init.fields import text_fields
from gemmule.init.refining import SAMPLE as REFINED
from gemmule.init.refining import Line, lines_for
from gemmule.recipe.errors import unknown_name
from gemmule.refine.sources import SourceFile, Tally, read_documents, resolve

LEAST = 50_000  # bytes: below, there is nothing to learn from and nothing to validate on


@dataclass(frozen=True)
class Found:
    """A text and how it is read."""

    files: list[SourceFile]
    field: str | None  # of records; None: it is plain text
    other_fields: list[str]  # of records, with text too
    bytes: int
    documents: int
    refine: Sequence[Line] = ()  # what [refine] should say of it
    left_out: str = ""  # bad records and empty files that were come across: how many, and the first

    @property
    def kinds(self) -> str:
        """ "3 files (2 .txt, 1 .md)"."""
        kinds = Counter(file.suffix for file in self.files).most_common(3)
        named = ", ".join(f"{count:,} {kind}" if len(kinds) > 1 else kind for kind, count in kinds)
        return f"{len(self.files):,} file{'s' * (len(self.files) > 1)} ({named})"


def look(sources: list[str], base: Path, field: str | None = None) -> Found:
    """`field` is the one that holds the text of records, if that is known.

    Raises RequestError for what can't be read, for records without text, and for too little text.
    """
    named = all((base / source).is_file() for source in sources)
    files = resolve(sources, base, tell=say, skip_empty=not named)
    fields = text_fields(files)
    if field is not None:
        if field not in fields:
            none = "--field: these files are plain text without fields: leave it out"
            raise RequestError(f"--field {field}: {unknown_name(field, fields, 'field of text')}" if fields else none)
        fields = [field, *(name for name in fields if name != field)]
    chosen = fields[0] if fields else None
    with tempfile.TemporaryDirectory(prefix="gemmule-init-") as folder:
        some, share = sample(files, chosen or "text", Path(folder))
        lengths: list[int] = []
        tally = Tally()
        with PatientMeter("looking at the text", len(some), "files") as meter:
            for number, file in enumerate(some, start=1):
                documents = read_documents(file, chosen or "text", tally, skip_bad=True)
                lengths += (len(document.text.encode()) for document in documents)
                meter.update(number)
        total = round(sum(lengths) / share)
        refine = _refine(files, chosen or "text", Path(folder)) if total >= LEAST else []
    if total < LEAST:
        raise RequestError(
            f"{', '.join(sources)}: {plain(size(total))} of text is too little to train on: {plain(size(LEAST))} are "
            "needed at least, 200 kB or more are better" + (f"; left out: {tally.left_out}" if tally.left_out else "")
        )
    return Found(files, chosen, fields[1:], total, round(len(lengths) / share), refine, tally.left_out)


def _refine(files: list[SourceFile], field: str, folder: Path) -> list[Line]:
    (folder / "refine").mkdir()
    return lines_for(sample(files, field, folder / "refine", REFINED)[0], field)
