"""What a model from outside makes of each document, by which the last ones are dropped before any is learned from.

It reads them in its own tokens: the run's tokenizer and tokens are made of what is kept, and so is not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gemmule.base import artifact
from gemmule.base.artifact import Artifact, Settings
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import human, say
from gemmule.evaluate.scores import WINDOW, Known, Scores, write
from gemmule.plan.origins import Origin, digest, model_files
from gemmule.plan.steps import Step
from gemmule.plan.steps.candidates import CandidatesStep
from gemmule.teach.teachers.kinds import Record, kind_of, place_of, shape_of

if TYPE_CHECKING:
    from gemmule.evaluate.any_model import AnyModel
    from gemmule.teach.teachers.shape import Shape


@dataclass(eq=False, kw_only=True)
class ScoresStep(Step):
    kind: ClassVar[str] = "scores"
    computes: ClassVar[bool] = True
    name: str  # the model's
    origin: Origin
    candidates: CandidatesStep

    @property
    def key(self) -> str:
        return f"models.{self.name}.from"

    @cached_property
    def settings(self) -> Settings:
        return {self.key: self.origin.identity, "window": WINDOW}

    @property
    def inputs(self) -> Mapping[str, Step]:
        return {"candidates": self.candidates}

    @cached_property
    def shape(self) -> Shape | None:
        """Its parameters and FLOPs, as it reads documents; None where nothing can be known."""
        return shape_of(self.origin.place, WINDOW)

    @property
    def scores(self) -> Scores:
        return Scores.read(self.path)

    def make(self) -> None:
        from gemmule.evaluate.scoring import Kept, score_all

        source = place_of(self.origin.place)
        kind = kind_of(source)
        if kind is None:
            raise RequestError(f"{self.key}: {source} is no longer a model")
        kind.check_installed(source)
        files = digest(model_files(Path(source), kind.files), {})
        if source == self.origin.place and files != self.origin.identity:
            raise RequestError(
                f"{self.key}: {source} holds another model ({files}) than this run was begun with "
                f"({self.origin.identity}). Put that back, or run elsewhere with --out"
            )
        earlier = self._earlier(files)
        made_from = {
            "settings": self.settings,
            "inputs": self.input_hashes,
            "files": files,
            "earlier": earlier.hash if earlier is not None else None,
        }
        kept = Kept(self.path.with_name(f".{self.name}.parts"), made_from)
        candidates, section = self.candidates, self.recipe.models[self.name]
        score_all(
            candidates.texts(),
            candidates.bytes,
            kept,
            lambda: self._load(source),
            self.name,
            known=Known(Scores.read(earlier.path) if earlier is not None else None),
            allow_worse=section.worse_than_unigram == "allow",
        )
        with self.publish() as folder:
            Record(str(self.origin.place), kind.name, None if source == self.origin.place else files).write(folder)
            write(kept, folder)
        kept.remove()
        found = self.scores
        say(
            f"{self.name} read {len(found):,} documents, {human(int(found.tokens.sum()))} of its tokens: "
            f"{found.overall:.2f} bits per byte"
        )

    def _earlier(self, files: str) -> Artifact | None:
        """The newest scores set aside that this model made: a document of the same text has them still."""
        for path in artifact.retired(self.path.parent.parent / "old" / self.path.parent.name, self.path.name):
            try:
                found = artifact.read(path)
                record = Record.read(path)
            except (WorkError, OSError, ValueError):
                continue
            alike = found.manifest.format_version == artifact.FORMAT_VERSIONS.get(self.kind, 1)
            if alike and found.settings == self.settings and record.files in (None, files):
                artifact.verify(found)
                return found
        return None

    def _load(self, source: Path | str) -> AnyModel:
        from gemmule.base.device import choose_device
        from gemmule.evaluate.any_model import load

        return load(self.key, Path(source), choose_device(self.recipe.machine.device))
