"""Students against their controls, and the sentences that say how it ended.

A control is the same model trained without a teacher, so the ratio of the two perplexities on validation text is what
the teacher was worth. The sentences are computed from the figures: they say as plainly that a student is behind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gemmule.base import units
from gemmule.evaluate.intervals import over_trainings
from gemmule.report.contents import ModelReport, ReportData

Models = Mapping[str, ModelReport]
Verdict = Literal["ahead", "behind", "level", "no difference found"]
PAID_BY = (
    "A student trained alone, with the teacher’s FLOPs added to its own, may well end ahead of this one. "
    "Distillation pays when the teacher exists already, when it serves many students, or when text or the student’s "
    "training time is short."
)
PAIRED = (
    "An interval and a p-value paired by document compare these two checkpoints; another seed gives others. Whether "
    "the method is ahead is told by several trainings: seeds = 3 in the recipe."
)
OVER_TRAININGS = (
    "An interval over trainings, which differ in their seed, tells of the method. It is Student’s t, of the ratios of "
    "student and control of the same seed."
)


@dataclass(frozen=True)
class Comparison:
    """A student, its control, their perplexities on validation text, and how certain the ratio of these is.

    Of several trainings the perplexities are means, and the interval is of the ratios of pairs of the same seed.
    """

    student: str
    control: str
    student_perplexity: float
    control_perplexity: float
    ratio: float  # of the two, below 1 when the student is ahead
    interval: Sequence[float] | None = None  # of the ratio, 95%
    p_value: float | None = None  # of there being no difference, of one training each
    trainings: int = 1  # of each
    over: str = "documents"  # what one training each is paired over

    @property
    def verdict(self) -> Verdict:
        """As the ratio shown says: 0.998 is shown as 1.00, and is level. An interval that holds 1 finds nothing."""
        if self.interval is not None and self.interval[0] <= 1 <= self.interval[1]:
            return "no difference found"
        shown = f"{self.ratio:.2f}"
        return "level" if shown == "1.00" else "ahead" if self.ratio < 1 else "behind"

    @property
    def sentence(self) -> str:
        """Figures and ratio; that the student is behind is said, not left to arithmetic."""
        return (
            f"{self.student} {units.perplexity(self.student_perplexity)} against "
            f"{self.control} {units.perplexity(self.control_perplexity)}: ratio {self.ratio:.2f}"
            + (f", {self.verdict}" if self.verdict in ("behind", "no difference found") else "")
        )

    @property
    def certainty(self) -> str:
        """The ratio's interval, over what it is, and the p-value; empty where they are not known."""
        if self.interval is None:
            return ""
        low, high = (f"{end:.3f}" for end in self.interval)
        over = f"over {self.trainings} trainings" if self.trainings > 1 else f"paired over {self.over}"
        p_value = f"; p{units.SPACE}{_p_value(self.p_value)}" if self.p_value is not None else ""
        return f"ratio {self.ratio:.3f}, 95% interval {low} to {high}, {over}{p_value}"


def controls_of(student: str, models: Models) -> list[str]:
    """The models that are like `student`, or that it is like, or that are like the same model, and learn from none.

    A model with another number of parameters is no control, whatever it was copied from: `like` can be overridden.
    """
    report = models[student]
    if report.learn_from is None:
        return []
    return [
        name
        for name, other in models.items()
        if name != student
        and other.learn_from is None
        and student != other.start_from
        and (other.like == student or report.like == name or other.like == report.like is not None)
        and _same(report, other, "parameters")
    ]


def comparisons(models: Models) -> list[Comparison]:
    """Every student with every control of its own, where both were evaluated, in the order of the models."""
    found = []
    for student, report in models.items():
        for control in controls_of(student, models):
            ours, theirs = report.value("perplexity"), models[control].value("perplexity")
            if ours is not None and theirs is not None and units.is_number(ours) and units.is_number(theirs):
                found.append(_compared(student, control, ours, theirs, models))
    return found


def _compared(student: str, control: str, ours: float, theirs: float, models: Models) -> Comparison:
    report, other = models[student], models[control]
    by_seed = [{each["seed"]: each.get("perplexity") for each in side.trainings} for side in (report, other)]
    pairs = [(value, by_seed[1].get(seed)) for seed, value in by_seed[0].items()]
    logarithms = [math.log(one / two) for one, two in pairs if one and two]
    if len(logarithms) > 1:
        ends = over_trainings(logarithms)
        ratio = math.exp(sum(logarithms) / len(logarithms))
        interval = None if ends is None else (math.exp(ends[0]), math.exp(ends[1]))
        return Comparison(student, control, ours, theirs, ratio, interval, trainings=len(logarithms))
    paired = report.paired.get(control)
    if paired is None:
        return Comparison(student, control, ours, theirs, ours / theirs)
    over = report.over or "documents"
    return Comparison(student, control, ours, theirs, ours / theirs, paired.interval, paired.p_value, over=over)


def _p_value(value: float) -> str:
    return f"={units.SPACE}{value:.2g}" if value >= 0.001 else f"<{units.SPACE}0.001"


def evaluated_teacher(student: str, models: Models) -> str | None:
    """The teacher of `student`, if it is a model of this run that was evaluated."""
    teacher = models[student].learn_from
    if teacher is None or teacher not in models or _perplexity(models[teacher]) == units.DASH:
        return None
    return teacher


def headline(data: ReportData) -> str:
    """The result in one sentence."""
    pairs = comparisons(data.models)
    if len(pairs) == 1:
        return pairs[0].sentence
    if pairs:
        return _count_verdicts(pairs)
    evaluated = {name: report for name, report in data.models.items() if _perplexity(report) != units.DASH}
    if not evaluated:
        begun = [(name, progress) for name, progress in data.progress.items() if progress.step]
        if begun:  # the last one: those before were interrupted
            name, progress = begun[-1]
            stands = "is in training" if data.running else "is not finished"
            return f"{name} {stands}: step {progress.step:,} of {progress.steps:,}"
        return "No model of this run has been evaluated yet"
    taught = [name for name, report in evaluated.items() if report.learn_from is not None]
    name = taught[0] if taught else next(iter(evaluated))
    if len(evaluated) == 1:
        return f"{name} reaches perplexity {_perplexity(evaluated[name])}"
    if taught:
        return f"{name} reaches perplexity {_perplexity(evaluated[name])}, with no control to compare it to"
    best = min(evaluated, key=lambda each: evaluated[each].value("perplexity") or 0)
    return f"{best} has the lowest perplexity of {len(evaluated)} models: {_perplexity(evaluated[best])}"


def explain(pair: Comparison, models: Models) -> str:
    """What a comparison means, for a reader who does not know the two models. Two to four sentences."""
    student, control = models[pair.student], models[pair.control]
    distance = abs(1 - pair.ratio)
    verdict = {
        "ahead": f"Taught by {student.learn_from}, {pair.student} ends ahead of {pair.control}, the same model without "
        f"a teacher: its perplexity is {distance:.0%} lower.",
        "behind": f"{pair.student} ends behind {pair.control}, the same model without a teacher: its perplexity is "
        f"{distance:.0%} higher. In this run, learning from {student.learn_from} did not help.",
        "level": f"{pair.student} ends level with {pair.control}, the same model without a teacher. In this run, "
        f"learning from {student.learn_from} made no difference in two decimals.",
        "no difference found": f"No difference was found between {pair.student} and {pair.control}, the same model "
        f"without a teacher: the interval of their ratio holds 1.",
    }
    sentences = [verdict[pair.verdict]]
    if pair.verdict in ("ahead", "behind") and distance < 0.03 and pair.trainings == 1:
        sentences.append("That is close: another seed could reverse it.")
    sentences += _against_teacher(pair, models)
    if not _same(student, control, "train_tokens"):
        ours, theirs = (units.count(report.figures.get("train_tokens")) for report in (student, control))
        sentences.append(f"They did not train for equally long: {ours} tokens against {theirs}.")
    return " ".join(sentences)


def notes(pairs: Sequence[Comparison]) -> list[str]:
    """What the intervals of comparisons tell, and what not; each is said once."""
    certain = [pair for pair in pairs if pair.interval is not None]
    paired = [PAIRED] if any(pair.trainings == 1 for pair in certain) else []
    return paired + ([OVER_TRAININGS] if any(pair.trainings > 1 for pair in certain) else [])


def paid(data: ReportData) -> list[str]:
    """Compute cost: for every teacher, what its training and what each of its students took. Empty without students."""
    students: dict[str, list[str]] = {}
    for name, report in data.models.items():
        if report.learn_from is not None and report.figures.get("train_flops") is not None:
            students.setdefault(report.learn_from, []).append(name)
    return [" ".join(_bill(teacher, taught, data.models)) for teacher, taught in students.items()]


def groups(models: Models) -> list[list[str]]:
    """Students and controls that belong together, each group in the order of the models.

    The best figure of a group is marked; a teacher is in none, as it did not compete.
    """
    found: list[set[str]] = []
    for student in models:
        group = {student, *controls_of(student, models)}
        if len(group) == 1:
            continue
        touching = [other for other in found if other & group]
        found = [other for other in found if not other & group] + [group.union(*touching)]
    return [[name for name in models if name in group] for group in found]


def different_settings(pair: Comparison, models: Models) -> list[tuple[str, object, object]]:
    """Settings that differ between a student and its control: key, the student's value, the control's."""
    ours, theirs = models[pair.student].settings, models[pair.control].settings
    keys = sorted(ours.keys() | theirs.keys())
    return [(key, ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)]


def _count_verdicts(pairs: list[Comparison]) -> str:
    """ "2 of 3 students with a control end ahead of it", or that none does."""
    students = list(dict.fromkeys(pair.student for pair in pairs))
    if len(students) == 1:
        ahead = sum(pair.verdict == "ahead" for pair in pairs)
        return f"{students[0]} ends ahead of {ahead} of its {len(pairs)} controls"
    ahead = sum(all(pair.verdict == "ahead" for pair in pairs if pair.student == student) for student in students)
    share = "All" if ahead == len(students) else f"{ahead} of" if ahead else "None of the"
    return f"{share} {len(students)} students with a control {'end' if ahead > 1 else 'ends'} ahead of it"


def _against_teacher(pair: Comparison, models: Models) -> list[str]:
    teacher = evaluated_teacher(pair.student, models)
    if teacher is None or teacher == pair.control:
        return []
    theirs = models[teacher].value("perplexity") or 0
    if pair.student_perplexity < theirs:
        return [f"It is ahead of {teacher}, which has {units.perplexity(theirs)}."]
    return [f"{teacher} itself has {units.perplexity(theirs)}."]


def _bill(teacher: str, students: list[str], models: Models) -> list[str]:
    """The sentences about one teacher and its students."""
    cost = models[teacher].figures.get("train_flops") if teacher in models else None
    if cost is None:
        sentences = [f"{teacher} was not trained in this run, so the cost of its training is not known here."]
    else:
        shared = f", paid once for {len(students)} students" if len(students) > 1 else ""
        sentences = [f"Training {teacher} took {units.flops(cost)}{shared}."]
    if len(students) <= 3:
        return sentences + [_took(student, [student], teacher, models) for student in students]
    return [*sentences, _took(f"these {len(students)} together", students, teacher, models)]


def _took(whom: str, students: list[str], teacher: str, models: Models) -> str:
    own = sum(models[student].figures["train_flops"] or 0 for student in students)
    forward = sum(models[student].figures.get("teacher_flops") or 0 for student in students)
    more = f", and {units.flops(forward)} more for the forward passes of {teacher}" if forward else ""
    return f"Training {whom} took {units.flops(own)}{more}."


def _perplexity(report: ModelReport) -> str:
    return units.perplexity(report.value("perplexity"))


def _same(one: ModelReport, other: ModelReport, figure: str) -> bool:
    """Whether two models agree in a figure, as far as it is known of both."""
    ours, theirs = one.figures.get(figure), other.figures.get(figure)
    return ours is None or theirs is None or ours == theirs
