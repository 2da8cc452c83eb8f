"""What a report is made from: plain values that a run gathers once its models are evaluated, or before.

Everything that may be missing has an empty default: a model that was not trained yet has no figures and no curve, and
the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gemmule.base import units
from gemmule.evaluate.intervals import over_trainings
from gemmule.evaluate.units import Ratio

Role = Literal["teacher", "student", "control", "model"]
Number = float | int


@dataclass(frozen=True)
class Progress:
    """How far a training is that is not finished; not started at step 0."""

    steps: int
    step: int = 0
    loss: Number | None = None  # the model's objective's, at the last step
    tokens_per_second: Number | None = None
    seconds_left: Number | None = None
    last_step: str = ""  # when that was, as it shall be shown
    checkpoints: Sequence[int] = ()  # their steps

    @property
    def words(self) -> str:
        return f"{self.step / self.steps:.0%} trained" if self.step else "not started"


@dataclass(frozen=True)
class ModelReport:
    """One model of the family.

    `learn_from`, `start_from` and `like` name other models of the run, as the recipe does; the first two may name
    something outside it. `origin` is where a model that was not trained here came from.

    `figures` holds those of `evaluate/table.py`, and train_tokens_asked, for which the recipe asks (train_tokens were
    trained on); None or absent where a figure makes no sense.
    """

    role: Role = "model"
    progress: Progress | None = None  # None: trained, or not to be trained here
    learn_from: str | None = None
    start_from: str | None = None
    cut: str = ""  # what was kept of the model that it started from, where that is not all
    like: str | None = None
    origin: str | None = None
    figures: Mapping[str, Number | None] = field(default_factory=dict)
    trainings: Sequence[
        Mapping[str, Number | None]
    ] = ()  # of several: each one's "seed" and figures, the first included
    intervals: Mapping[str, Sequence[Number]] = field(default_factory=dict)  # of figures: [low, high], 95%
    over: str = ""  # what those are over: "412 documents"
    paired: Mapping[str, Ratio] = field(default_factory=dict)  # by its controls, on the same documents
    by_position: Sequence[Mapping[str, Number]] = ()  # {"from", "to", "loss", "count"}: places [from, to) in the window
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what it scored, by task
    curve: Sequence[Mapping[str, Number]] = ()  # {"tokens", "loss"}: validation next-token loss while training, nats
    training: Sequence[Mapping[str, Number]] = ()  # {"tokens", "loss"}: its objective's, nats
    objective: str = (
        "next-token loss"  # what that is called: "forward KL" where it learns from a teacher's distributions
    )
    calibration: Sequence[Mapping[str, Number | None]] = ()  # {"confidence", "accuracy", "count"}: equal bins
    against: str | None = None  # the teacher that it is held against: its own, or a control's student's
    agreement: Sequence[
        Mapping[str, Number | None]
    ] = ()  # {"from", "to", "count", "kl", "agreement"}: see `agreement.py`
    samples: Sequence[Mapping[str, str]] = ()  # {"prompt", "text"}: text is the continuation alone
    settings: Mapping[str, Any] = field(default_factory=dict)  # flat dotted keys
    lineage: Sequence[Mapping[str, Any]] = ()  # {"kind", "hash", "settings"}: what it was made from
    warnings: Sequence[str] = ()

    def value(self, figure: str) -> Number | None:
        """A figure; of several trainings their mean."""
        known = self._over_trainings(figure)
        return sum(known) / len(known) if known else self.figures.get(figure)

    def interval(self, figure: str) -> Sequence[Number] | None:
        """Its interval of 95%: over trainings, where there are several, or else over documents."""
        known = self._over_trainings(figure)
        return over_trainings(known) if known else self.intervals.get(figure)

    def _over_trainings(self, figure: str) -> list[Number]:
        """The figure of each training; empty where there is one, or it is not known of all."""
        values = [training.get(figure) for training in self.trainings]
        known = [value for value in values if value is not None and units.is_number(value)]
        return known if len(known) == len(values) > 1 else []


@dataclass(frozen=True)
class Refined:
    """What the refinery made of the text; `page` is where its own page lies, from the report's folder."""

    documents_in: int
    documents_out: int
    bytes_in: int
    bytes_out: int
    page: str


@dataclass(frozen=True)
class ReportData:
    """A run: its text, its models in the recipe's order, its recipe.

    `text` holds documents, train_tokens, validation_tokens, validation_bytes, vocabulary_size, bytes_per_token and
    sources (a list of names). `refined` is None where text was taken as it stands. `created` is a date as it shall be
    shown; `recipe` is TOML. `running` is whether a process is at work on it; `standing` says how the run stands, where
    it stopped before its end.
    """

    name: str
    created: str = ""
    command: str = ""
    machine: str = ""
    text: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, ModelReport] = field(default_factory=dict)
    recipe: str = ""
    running: bool = False
    standing: str = ""
    refined: Refined | None = None

    @property
    def progress(self) -> dict[str, Progress]:
        """Of the models whose training is not finished."""
        return {name: report.progress for name, report in self.models.items() if report.progress is not None}
