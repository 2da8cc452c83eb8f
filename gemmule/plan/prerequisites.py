"""What the steps of a run that are left need of this machine: extras and a device, checked before any of them is made.

A teacher that can't be loaded is found here, and not after an hour of documents and tokens. Extras are looked for and
not imported; torch is imported only where the recipe names a device.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gemmule.base import signals
from gemmule.base.errors import GemmuleError, RequestError
from gemmule.plan.origins import Origin
from gemmule.plan.plan import Plan
from gemmule.plan.steps import Step
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.evaluation import EvaluationStep
from gemmule.plan.steps.outside import OutsideStep
from gemmule.plan.steps.scores import ScoresStep
from gemmule.teach.teachers.kinds import Kind, kind_of, named, place_of


def check(steps: Iterable[Step], plan: Plan) -> None:
    """Raises RequestError naming an extra or a device that the making of `steps` needs and this machine lacks."""
    steps = list(steps)
    for text in plan.of(DocumentsStep):
        if text in steps:
            text.check_code()
            if text.refining is not None:
                text.refining.check()
    taken = plan.tokenizer.origin
    if plan.tokenizer in steps and taken is not None and taken.kind is not None and Path(taken.place).is_file():
        taken.kind.check_installed(taken.place)
    asked = {step for made in steps for step in (made, *made.inputs.values())}
    for step in plan.of(OutsideStep):
        if step in asked and (kind := _kind(step)) is not None:
            kind.check_installed(step.origin.place)
    for scores in plan.of(ScoresStep):
        if scores in steps and (kind := _kind_of(scores.origin)) is not None:
            kind.check_installed(scores.origin.place)
    if plan.recipe.evaluate.tasks and any(isinstance(step, EvaluationStep) for step in steps):
        with signals.deferred():
            from gemmule.evaluate import tasks  # imports torch

        try:
            tasks.check(plan.recipe.evaluate.tasks)
        except RequestError as error:
            raise RequestError(f"evaluate.tasks: {error}") from None
    if plan.recipe.machine.device != "auto" and any(step.computes for step in steps):
        with signals.deferred():
            from gemmule.base.device import choose_device  # imports torch

        try:
            choose_device(plan.recipe.machine.device)
        except RequestError as error:
            raise RequestError(f"machine.{error}") from None


def _kind(step: OutsideStep) -> Kind | None:
    """Of a step that is made what it recorded; else what its source is."""
    if step.path.exists():
        return named(step.record().kind)
    return _kind_of(step.origin)


def _kind_of(origin: Origin) -> Kind | None:
    """None where that can't be told.

    Raises RequestError for a hub id whose config.json can't be had: it is fetched first, before any work.
    """
    source = place_of(origin.place, ("config.json",))
    try:
        return kind_of(source)
    except GemmuleError:
        return None  # said by the step, in its own words
