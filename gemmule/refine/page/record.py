"""refinery.json as the page and the command line read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemmule.refine.refinery import RECORD

Number = int | float
Fact = Number | str
Bins = Sequence[tuple[int, int]]  # of lengths: bytes that it begins at, documents


@dataclass(frozen=True)
class StepRecord:
    """What went into a step, and what came out of it."""

    name: str
    documents_in: int
    documents_out: int
    bytes_in: int
    bytes_out: int
    changed: int = 0  # documents
    counts: Mapping[str, int] = field(default_factory=dict)  # what was changed or found, by kind
    facts: Mapping[str, Fact] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def dropped(self) -> int:
        """Documents."""
        return self.documents_in - self.documents_out

    @property
    def lost(self) -> int:
        """Bytes: of what was dropped, and of what was cut or masked; negative where texts grew."""
        return self.bytes_in - self.bytes_out


@dataclass(frozen=True)
class Record:
    """The refinery's steps in their order; the languages and lengths of what came out, and lengths of what came in."""

    steps: Sequence[StepRecord] = ()
    languages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # {"documents", "bytes"}; "": not told
    raw_lengths: Bins = ()
    refined_lengths: Bins = ()
    settings: Mapping[str, Any] = field(
        default_factory=dict
    )  # of [refine]: dotted keys below it, and what those that name files come to

    @property
    def documents_in(self) -> int:
        return self.steps[0].documents_in if self.steps else self.documents_out

    @property
    def documents_out(self) -> int:
        return (
            self.steps[-1].documents_out if self.steps else sum(each["documents"] for each in self.languages.values())
        )

    @property
    def bytes_in(self) -> int:
        return self.steps[0].bytes_in if self.steps else self.bytes_out

    @property
    def bytes_out(self) -> int:
        return self.steps[-1].bytes_out if self.steps else sum(each["bytes"] for each in self.languages.values())

    @property
    def largest(self) -> StepRecord | None:
        """The step that took most bytes, of those that dropped documents or cut texts."""
        return max((step for step in self.steps if step.dropped or step.lost > 0), key=_lost, default=None)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Of the refinery that wrote `folder`."""
        return cls.of(json.loads((folder / RECORD).read_text(encoding="utf-8")))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Record:
        """From what refinery.json holds; keys that are not known here are passed over."""
        known = StepRecord.__dataclass_fields__
        lengths = record.get("lengths", {})
        return cls(
            steps=[StepRecord(**{key: step[key] for key in known if key in step}) for step in record["steps"]],
            languages=record.get("languages", {}),
            raw_lengths=[(low, documents) for low, documents in lengths.get("raw", [])],
            refined_lengths=[(low, documents) for low, documents in lengths.get("refined", [])],
            settings={key.removeprefix("refine."): value for key, value in record.get("settings", {}).items()},
        )


def _lost(step: StepRecord) -> tuple[int, int]:
    return step.lost, step.dropped
