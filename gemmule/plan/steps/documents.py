"""The recipe's text as documents: read, refined where the recipe says so, split into training and validation."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gemmule import __version__
from gemmule.base.artifact import Settings
from gemmule.base.errors import RequestError
from gemmule.base.processes import Workers, cores
from gemmule.base.progress import human, say
from gemmule.plan.steps import Step
from gemmule.recipe import identity

if TYPE_CHECKING:
    from gemmule.refine.documents import DocumentsSummary, Reading
    from gemmule.refine.explaining import Opinion
    from gemmule.refine.refinery import Refined
    from gemmule.refine.refining import Refining
    from gemmule.refine.source_file import SourceFile
    from gemmule.refine.sources import Document, Tally

PROMPT_LENGTH = 48  # characters, about


@dataclass(eq=False, kw_only=True)
class DocumentsStep(Step):
    kind: ClassVar[str] = "documents"
    verb: ClassVar[str] = "refine"
    files: list[SourceFile]  # none where they are gone, and the documents were made of them
    digest: str  # of what the files hold
    notes: list[str]  # what was left out of the sources
    refining: Refining | None  # None: text is taken as it stands
    named: Settings = field(default_factory=dict)  # what else [refine] names comes to, by its keys
    allow_code: bool = False  # whether the user's own function, refine.keep, may run

    @cached_property
    def settings(self) -> Settings:
        settings = {"data.sources": self.digest, **identity(self.recipe.data, "data")}
        if self.recipe.refine is not None:
            settings |= identity(self.recipe.refine, "refine") | self.named
        return settings

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {}

    def make(self) -> None:
        self.check_code()
        self.tell()
        with self.publish() as folder:
            summary = self.fill(folder)
            if self.refining is not None:
                from gemmule.refine.page import write_page

                write_page(folder)
        shutil.rmtree(self.work, ignore_errors=True)
        say(
            f"documents: {summary.train_documents:,} for training ({human(summary.train_bytes)}B), "
            f"{summary.validation_documents:,} for validation ({human(summary.validation_bytes)}B){summary.remarks}"
        )
        if summary.left_out:
            say(f"skipped: {summary.left_out}")
        if self.refining is not None:
            from gemmule.refine.explaining import table_lines
            from gemmule.refine.page import PAGE

            for line in table_lines(self.record):
                say(line)
            say(f"Open {self.path / PAGE}")

    def check_code(self) -> None:
        """Raises RequestError where the recipe has code of its user's run, and the command does not allow it."""
        if self.recipe.refine is not None and self.recipe.refine.keep is not None and not self.allow_code:
            raise RequestError(
                f"refine.keep = {self.recipe.refine.keep!r} runs code that is not gemmule's: add --allow-code"
            )

    @property
    def record(self) -> dict[str, Any]:
        """What became of all documents: refinery.json."""
        from gemmule.refine.refinery import RECORD

        record: dict[str, Any] = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        return record

    def dry_run(self) -> dict[str, Any]:
        """Refines all text, and keeps nothing but the counts."""
        self._check_there()
        with self.refined(self.reading(self.files)) as (refined, _), tempfile.TemporaryDirectory() as folder:
            return refined.write(Path(folder), self.settings)

    def explain(self, wanted: str) -> Iterator[tuple[str, list[Opinion]]]:
        """What every step thinks of a document, FILE:N, or of all in a FILE; text that isn't refined so yet is.

        Raises RequestError if there is none.
        """
        from gemmule.refine.opinions import Explainer, find

        self._check_there()
        assert self.refining is not None
        find(wanted, self.files)
        reading, steps = self.reading(self.files), self.refining.steps()
        if self.is_made:
            yield from Explainer(reading, steps, self.path).explain(wanted)
            return
        say("refining all text first, for what is like what: it is not made with these settings yet")
        with self.refined(reading) as (refined, _), tempfile.TemporaryDirectory() as folder:
            refined.write(Path(folder), self.settings)
            yield from Explainer(reading, steps, Path(folder)).explain(wanted)

    def _check_there(self) -> None:
        """Raises RequestError where there is nothing to refine, or no way."""
        if self.recipe.refine is None:
            raise RequestError("this recipe has no [refine]: its text is taken as it stands")
        if self.refining is None:
            raise RequestError(f"the text that {self.path} was made from is gone")
        self.check_code()
        self.refining.check()

    def tell(self) -> None:
        """Says what was left out of the sources."""
        for note in self.notes:
            say(note)

    def fill(self, folder: Path) -> DocumentsSummary:
        """Writes the documents into `folder`."""
        return self.write(self.files, folder, self.work)

    @property
    def work(self) -> Path:
        """Where an interrupted refining left what it had done."""
        return self.path.with_name(f".{self.path.name}.refining")

    def write(self, files: list[SourceFile], folder: Path, work: Path | None = None) -> DocumentsSummary:
        """The documents in some files, as the recipe has them read and refined, written into `folder`.

        Work in progress is kept in `work`, if that is given. Without `allow_code` the user's function is left out.
        """
        from gemmule.refine.documents import write_documents

        reading, fraction = self.reading(files), self.recipe.data.validation_fraction
        if self.refining is None:
            return write_documents(reading, fraction, folder)
        with self.refined(reading, work) as (refined, tally):
            folder.mkdir(parents=True, exist_ok=True)
            refined.write(folder, self.settings)

            def documents(counted: Tally) -> Iterable[Document]:
                counted.__dict__.update(tally.__dict__)
                return refined.corpus

            return write_documents(reading, fraction, folder, documents)

    def reading(self, files: list[SourceFile]) -> Reading:
        from gemmule.refine.documents import Reading

        data, refine = self.recipe.data, self.recipe.refine
        replaced = refine is not None and refine.repair == "replace"
        return Reading(files, data.field, data.bad_records == "skip", "replace" if replaced else "refuse")

    @contextmanager
    def refined(self, reading: Reading, work: Path | None = None) -> Iterator[tuple[Refined, Tally]]:
        """What the refinery makes of a text, while its folder is there; and what was counted in reading."""
        from gemmule.refine.refinery import resumable
        from gemmule.refine.refining import processes_for

        assert self.refining is not None
        most = self.recipe.machine.processes or cores()
        with tempfile.TemporaryDirectory(prefix="gemmule-refine-") as temporary:
            folder = Path(temporary) if work is None else work
            folder = resumable(folder, self.settings | {"gemmule": __version__})
            with Workers(processes_for(reading, most)) as workers:
                refining = self.refining if self.allow_code else self.refining.without_code
                yield refining.run(reading, folder, workers)

    @property
    def summary(self) -> dict[str, Any]:
        """Its counts, as `DocumentsSummary` names them."""
        summary: dict[str, Any] = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        return summary

    def openings(self) -> list[str]:
        """The opening words of two validation documents, as prompts."""
        from gemmule.refine.documents import read_split

        prompts = []
        for text in islice(read_split(self.path, "validation"), 2):
            words = text.strip()[:PROMPT_LENGTH].rsplit(maxsplit=1)
            prompts.append(words[0] if words else "")
        return prompts
