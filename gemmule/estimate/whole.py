"""The estimate of a whole recipe: counted, measured, and put together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gemmule.base.vocabulary import id_bytes
from gemmule.estimate import fits, memory, shapes, text, timing
from gemmule.estimate.machine import Measured, free_disk, free_memory
from gemmule.estimate.memory import Memory
from gemmule.estimate.text import Text
from gemmule.estimate.timing import Scoring, Teaching, Training
from gemmule.plan.plan import Plan
from gemmule.plan.steps.model import ModelStep
from gemmule.plan.steps.scores import ScoresStep
from gemmule.plan.steps.targets import TargetsStep
from gemmule.recipe import join_names
from gemmule.teach.teachers.shape import Shape

OTHER_FILES = 2 * 10**6  # bytes: a run's report, recipe, summary
RECORDS = 700  # bytes a step: in metrics.jsonl and for TensorBoard


@dataclass(frozen=True)
class ModelEstimate:
    """One model of a recipe."""

    name: str
    learn_from: str | None
    trainings: int  # of which each takes what follows; 1 of a model that is not trained here
    shape: Shape | None  # None: nothing is known of it
    training: Training | None  # None: it is not trained here
    memory: Memory | None  # while it trains
    disk: int  # bytes of its folder
    evaluation_seconds: float
    evaluation_memory: int


@dataclass(frozen=True)
class Estimate:
    """What a recipe will take, on this machine."""

    recipe: str
    text: Text
    models: list[ModelEstimate]
    scoring: list[Scoring]  # of documents, by a model; one at most
    teaching: list[Teaching]
    measured: Measured
    free_memory: int
    free_disk: int
    disk: int  # bytes of the run folder

    @property
    def trained(self) -> list[tuple[ModelEstimate, Training, Memory]]:
        """The models that are trained here."""
        return [(m, m.training, m.memory) for m in self.models if m.training is not None and m.memory is not None]

    @property
    def training_seconds(self) -> float:
        return sum(model.trainings * training.seconds for model, training, _ in self.trained)

    @property
    def other_seconds(self) -> float:
        """Of everything that is not a training step; a server's answers are not counted."""
        beside = sum(model.trainings * training.other_seconds for model, training, _ in self.trained)
        taught = sum(entry.times * (entry.seconds or 0.0) for entry in self.teaching)
        evaluated = sum(model.trainings * model.evaluation_seconds for model in self.models)
        scored = sum(entry.seconds or 0.0 for entry in self.scoring)
        return timing.START_UP + self.text.seconds + scored + beside + taught + evaluated

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.other_seconds

    @property
    def flops(self) -> float:
        """Of training, of teachers' answers and of documents' scores, as far as they are known."""
        trained = sum(model.trainings * (own.flops + (own.teacher_flops or 0)) for model, own, _ in self.trained)
        scored = sum(entry.flops or 0 for entry in self.scoring)
        return trained + scored + sum(entry.times * (entry.flops or 0) for entry in self.teaching)

    @property
    def peak_memory(self) -> int:
        """Of the process, in the phase of the run that takes most."""
        trained = [held.total for _, _, held in self.trained]
        taught = [entry.memory for entry in self.teaching]
        scored = [entry.memory for entry in self.scoring]
        return self.measured.process + max(
            [*trained, *taught, *scored, *(model.evaluation_memory for model in self.models)]
        )


def estimate(plan: Plan) -> Estimate:
    """Looks at the text, counts, and measures for about ten seconds.

    Raises RequestError or WorkError where the run itself would, as for text that can't be read.
    """
    found = text.look(plan)
    known = shapes.shapes(plan, found.vocabulary_size)
    from gemmule.estimate.measuring import measure  # imports torch

    measured = measure(plan, known, found.vocabulary_size)
    models = [_model(plan, name, known, found, measured) for name in plan.recipe.models]
    folders = Counter(step.path.name for step in plan.of(TargetsStep))
    taught = [timing.teaching(step, known, found, measured, folders[name]) for name, step in plan.targets.items()]
    tokens = found.train_tokens + found.validation_tokens
    return Estimate(
        recipe=plan.recipe.name,
        text=found,
        models=models,
        scoring=[timing.scoring(step, found, measured) for step in plan.of(ScoresStep)],
        teaching=taught,
        measured=measured,
        free_memory=free_memory(),
        free_disk=free_disk(plan.out),
        disk=OTHER_FILES
        + found.document_bytes
        + tokens * id_bytes(found.vocabulary_size)
        + sum(model.trainings * model.disk for model in models)
        + sum(entry.times * entry.disk for entry in taught),
    )


def _model(plan: Plan, name: str, known: dict[str, Shape | None], found: Text, measured: Measured) -> ModelEstimate:
    step, evaluation = plan.models[name], plan.evaluations[name]
    trained, held, disk = None, None, 0
    if isinstance(step, ModelStep) and (config := shapes.config_of(known[name])) is not None:
        trained, held = timing.training(step, config, known, found, measured), fits.training(step, known)
        kept = memory.checkpoints_kept(step.train, trained.steps, trained.seconds)
        disk = kept * memory.checkpoint_bytes(config, step.train) + config.parameters * memory.NUMBER
        disk += trained.steps * RECORDS
    return ModelEstimate(
        name=name,
        learn_from=join_names(plan.recipe.models[name].teachers) or None,
        trainings=plan.recipe.trainings(name),
        shape=known[name],
        training=trained,
        memory=held,
        disk=disk,
        evaluation_seconds=timing.evaluating(evaluation, known, found, measured),
        evaluation_memory=fits.evaluation(evaluation, known, found.vocabulary_size),
    )
