"""The steps of a run, one file a kind of artifact: its identity (settings and inputs) and its making.

    documents -> tokenizer -> tokens -> models (each: outside weights | targets, training) -> evaluations
    candidates -> scores -> documents, where a model from outside scores them

torch is imported inside a making: laying out a plan, and skipping what is made, go without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gemmule.base import artifact
from gemmule.base.artifact import Artifact, Settings
from gemmule.base.errors import WorkError
from gemmule.recipe import Recipe


@dataclass(eq=False, kw_only=True)
class Step(ABC):
    """One artifact to be: where it lies, what makes it what it is, and how it is made."""

    kind: ClassVar[str]  # its artifact's
    verb: ClassVar[str] = ""  # the command that makes it, with all that it needs; without one it is made by the way
    computes: ClassVar[bool] = False  # whether models are run for it, on the recipe's device
    recipe: Recipe
    path: Path

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Of its manifest: where one differs, it is another artifact."""

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Step]:
        """What it is made from, by the role that each plays."""

    @abstractmethod
    def make(self) -> None:
        """Makes and publishes its artifact. Its inputs are there."""

    @property
    def read_by(self) -> Mapping[str, int]:
        """The models that run in its making, and how many tokens each reads: three times as many of one in training.

        The text's tokens are there.
        """
        return {}

    @property
    def along(self) -> Sequence[Step]:
        """Other steps that its making makes too. Its inputs are there."""
        return ()

    @property
    def share_done(self) -> float:
        """Of its making, that an interrupted one left to resume from."""
        return 0.0

    @property
    def made_in(self) -> Path:
        """The folder of all that its making leaves."""
        return self.path

    @property
    def begun(self) -> Path | None:
        """What an interrupted making left, from which it resumes; an artifact of its own."""
        return None

    @property
    def meeting_point(self) -> Path | None:
        """The last of what its making left that these settings would have come to as well, though others did."""
        return None

    def belongs_to(self, models: Collection[str]) -> bool:
        """Whether it is made for one of these models; or for all."""
        return True

    @property
    def artifact(self) -> Artifact:
        """What this step made. Raises WorkError if it is not there or damaged."""
        return artifact.read(self.path)

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """What this step is made from."""
        return {role: step.artifact for role, step in self.inputs.items()}

    @property
    def input_hashes(self) -> dict[str, str]:
        """Of what this step is made from."""
        return {role: made.hash for role, made in self.artifacts.items()}

    @property
    def is_made(self) -> bool:
        """Whether what lies in its place is what it would make, and so for all that it is made from."""
        if not self.path.exists() or not all(step.is_made for step in self.inputs.values()):
            return False
        try:
            return not artifact.differences(self.artifact, self.kind, self.settings, self.input_hashes)
        except WorkError:
            return False

    def publish(self) -> AbstractContextManager[Path]:
        """A folder to write its artifact into."""
        return artifact.publish(self.path, self.kind, settings=self.settings, inputs=self.artifacts)
