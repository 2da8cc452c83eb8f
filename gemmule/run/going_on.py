"""What becomes of models whose schedule changed: they are trained on from where it makes no difference yet.

With a rate that stays until it falls, a model of 10M tokens and one of 20M are the same until the rate of the first
falls. Its training keeps the checkpoint from before that; a finished model whose `tokens` are raised goes on from
there, and ends as if it had been trained for so many from the start, to the bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from gemmule.base import artifact
from gemmule.base.progress import say
from gemmule.plan.steps import Step
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.evaluation import EvaluationStep
from gemmule.plan.steps.model import ModelStep
from gemmule.plan.steps.scores import ScoresStep
from gemmule.plan.steps.tokenizer import TokenizerStep
from gemmule.plan.steps.tokens import TokensStep
from gemmule.train import pace
from gemmule.train.metrics import METRICS

TEXT = (DocumentsStep, ScoresStep, TokenizerStep, TokensStep)  # of a document that stays the score stays


def goes_on(step: Step, stale: Collection[Step]) -> bool:
    """Whether a stale step is a model that is trained on from a checkpoint, and not anew."""
    follows = any(source in stale for source in step.inputs.values())
    return not follows and step.meeting_point is not None


def lost(stale: Mapping[Step, list[str]]) -> list[Step]:
    """What is made anew and was worth something, of what is stale: neither models that go on, nor what was measured.

    An evaluation takes a small part of its run, and what is replaced of it is kept; but of a model that is made anew it
    goes with the model. Text that is refined anew, before any model has learned from it, is what refining is.
    """
    if all(isinstance(step, TEXT) for step in stale) and all(map(_is_refined_otherwise, stale.values())):
        return []
    on = {step for step in stale if goes_on(step, stale)}
    measured = {step for step in stale if isinstance(step, EvaluationStep) and on.issuperset(_among(step, stale))}
    return [step for step in stale if step not in on | measured]


def _is_refined_otherwise(reasons: Iterable[str]) -> bool:
    """Whether nothing but [refine] changed, or it follows from that."""
    return all(reason.startswith(("refine.", "its ")) for reason in reasons)


def hints(step: Step, stale: Mapping[Step, list[str]]) -> list[str]:
    """Of a model that goes on, from where; of one that could but for its batches, what to say for that."""
    if goes_on(step, stale):
        assert step.meeting_point is not None
        return [f"  it goes on from {step.meeting_point.name}"]
    keys = dict(reason.split(": ", 1) for reason in stale[step] if ": " in reason)
    sized = {key: value for key, value in keys.items() if key.endswith(".train.batch_tokens")}
    if sized and any(key.endswith(".train.tokens") for key in keys):
        ((key, value),) = sized.items()
        return [f"  with {key} = {value.partition(' -> ')[0]} it can go on from where it is"]
    return []


def _among(step: Step, stale: Collection[Step]) -> list[Step]:
    """The stale ones that it is made from."""
    return [source for source in step.inputs.values() if source in stale]


def go_back(step: Step, out: Path) -> None:
    """Has a model stand where it goes on from. What it came to after that is moved to `out`/old."""
    assert isinstance(step, ModelStep)
    meeting_point = step.meeting_point
    assert meeting_point is not None
    if step.path.exists():
        moved = artifact.retire(step.path, out / "old" / step.made_in.relative_to(out))
        shutil.copy(step.made_in / METRICS, moved.with_name(f"{moved.name}-{METRICS}"))
        say(f"moved {step.path} to {moved}")
    begin = pace.step_of(meeting_point)
    say(f"{step.name}: goes on from step {begin} of {step.steps}")
    pace.drop_after(meeting_point.parent, begin)
