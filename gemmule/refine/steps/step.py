"""What a step of the refinery is: it looks at documents and keeps, changes or drops them, and says why.

- A `DocumentStep` judges each document by itself, in any process. One that `learns` reads all documents first.
- A `CorpusStep` decides over all documents at once: duplicates.

A step is made in the main process and sent to others by pickle: what is large, or slow to load, it loads where it is
first needed, or keeps in a file of the folder that `prepare` is given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from gemmule.refine.corpus import Corpus
    from gemmule.refine.sources import Document

Figure = int | float | str


@dataclass(frozen=True)
class Verdict:
    """What a step makes of a document."""

    document: Document | None  # as it goes on; None: it is dropped
    reason: str = ""  # of a drop: the rule and its figure, as in "gopher: 12 words, fewer than 50"
    figures: Mapping[str, Figure] = field(default_factory=dict)  # what was measured, of a kept document too
    counts: Mapping[str, int] = field(default_factory=dict)  # what was changed, by kind, as {"<email>": 2}
    matched: str = ""  # of a drop: the document or item that it is like, as SOURCE:POSITION


class DocumentStep(ABC):
    """Judges one document at a time."""

    name: ClassVar[str]  # in refinery.json
    learns: ClassVar[bool] = False  # whether `prepare` needs all documents, as they come to this step

    def prepare(self, folder: Path, corpus: Corpus | None) -> None:  # noqa: B027 (most have nothing to prepare)
        """Called once, before the first document, in the main process; files of its own are kept in `folder`.

        `corpus` is there for a step that learns. A resumed run calls it again.
        """

    def facts(self) -> Mapping[str, Figure]:
        """What else there is to say of it in the report, once it is prepared."""
        return {}

    @abstractmethod
    def judge(self, document: Document) -> Verdict:
        """Quick: what decides first ends it."""

    def explain(self, document: Document) -> Verdict:
        """As `judge`, with every figure that it looks at, whether or not it decides."""
        return self.judge(document)


@dataclass(frozen=True)
class Drop:
    """A document that a corpus step leaves out, by its number in the corpus."""

    number: int
    reason: str
    matched: str = ""  # what it is like, as SOURCE:POSITION


@dataclass(frozen=True)
class Decisions:
    """What a corpus step does, in the order of the documents."""

    dropped: Sequence[Drop] = ()
    changed: Mapping[int, str] = field(default_factory=dict)  # new texts, by number
    counts: Mapping[str, int] = field(default_factory=dict)


class CorpusStep(ABC):
    """Decides over all documents, as they come to it."""

    name: ClassVar[str]  # in refinery.json

    def facts(self) -> Mapping[str, Figure]:
        """What else there is to say of it in the report, once it has decided."""
        return {}

    @abstractmethod
    def decide(self, corpus: Corpus) -> Decisions: ...


Step = DocumentStep | CorpusStep
