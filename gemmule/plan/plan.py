"""The plan of a run: from a recipe to the steps that make its artifacts, each after its inputs.

A step (`steps/`) knows where its artifact lies, what makes it what it is and how it is made; when, the runner says.
Whatever can be checked about the recipe, the text and outside models before any work is checked here. Nothing here
imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gemmule import recipe as recipes
from gemmule.base import artifact
from gemmule.base.errors import RequestError
from gemmule.base.run_folder import SEEDS, run_of
from gemmule.plan.origins import Origin, Origins, located
from gemmule.plan.steps import Step
from gemmule.plan.steps.any_model import AnyModel
from gemmule.plan.steps.candidates import CandidatesStep
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.evaluation import EvaluationStep
from gemmule.plan.steps.model import ModelStep
from gemmule.plan.steps.outside import OutsideStep, read_config
from gemmule.plan.steps.scored_documents import ScoredDocumentsStep
from gemmule.plan.steps.scores import ScoresStep
from gemmule.plan.steps.targets import TargetsStep
from gemmule.plan.steps.tokenizer import TokenizerStep
from gemmule.plan.steps.tokens import TokensStep
from gemmule.recipe import Recipe, Refine, Targets, Train
from gemmule.refine import sources
from gemmule.refine.refining import Refining
from gemmule.refine.steps import Outside, keep
from gemmule.teach.teachers import checks

if TYPE_CHECKING:
    from gemmule.refine.documents import Split

NAMED_IN_REFINE = ("refine.minus", "refine.decontaminate", "refine.keep")
AnyStep = TypeVar("AnyStep", bound=Step)


@dataclass(frozen=True)
class Training:
    """The models with one seed, and the steps that train and evaluate them.

    In a further one, those that are trained so often have steps of their own. Those trained once, or taken from
    outside, are the first one's: all may learn and start from them.
    """

    recipe: Recipe  # with this seed
    folder: Path  # the run's; of a further one: seeds/SEED in it
    models: dict[str, AnyModel] = field(default_factory=dict)
    targets: dict[str, TargetsStep] = field(default_factory=dict)  # by the names of their teachers, joined
    evaluations: dict[str, EvaluationStep] = field(default_factory=dict)


class Plan:
    """The steps of a recipe in a run folder, and where to find them."""

    def __init__(
        self, raw: dict[str, Any], origin: Path, out: Path | None = None, fingerprints: Mapping[str, Any] | None = None
    ) -> None:
        """`raw` is the recipe's TOML, read from `origin`. Raises RequestError for what can't be run as it is.

        `fingerprints` are those of another plan, beside those in `out`: so that large files are hashed but once.
        """
        self.base = origin.absolute().parent  # what the recipe names is relative to it, wherever a step looks from
        self.recipe: Recipe = recipes.parse(raw, str(origin), self._outside_shape)
        self.out = out if out is not None else run_of(origin) or Path("runs") / self.recipe.name
        self.origins = Origins(self.base, self.out, fingerprints or {})
        checks.check(self.recipe, str(origin), self.origins.kind)
        self.missing_text: RequestError | None = None  # where the text is gone, but the documents were made of it
        self.steps: list[Step] = []
        self._lay_out()

    def _lay_out(self) -> None:
        recipe = self.recipe
        self.documents = self._add(self._documents())
        self.tokenizer = self._add(self._tokenizer())
        self.train_tokens, self.validation_tokens = self._tokens("train"), self._tokens("validation")
        first = Training(recipe, self.out)
        self.models, self.targets, self.evaluations = first.models, first.targets, first.evaluations
        self.trainings = [first]
        for name, model in recipe.models.items():
            if model.from_ is not None:
                self.models[name] = self._add(self._outside(name, model.from_))
        self._add(self.train_tokens)
        self._add(self.validation_tokens)
        self._lay_out_training(first, recipe.models)
        for number in range(1, max(map(recipe.trainings, recipe.models))):
            seed = recipe.seed + number
            of_seed = recipe.model_copy(update={"seed": seed})
            further = Training(of_seed, self.out / SEEDS / str(seed), dict(self.models))
            self.trainings.append(further)
            self._lay_out_training(further, [name for name in recipe.models if recipe.trainings(name) > number])

    def _lay_out_training(self, training: Training, names: Iterable[str]) -> None:
        """The steps of some models: all training first, and each after those that it needs."""
        names = list(names)
        for name in self.recipe.order():
            if name in names and (train := self.recipe.models[name].train) is not None:
                training.models[name] = self._add(self._model(training, name, train))
        for name in names:
            training.evaluations[name] = self._add(self._evaluation(training, name))
        peers = list(training.evaluations.values())
        for evaluation in peers:
            evaluation.peers = peers

    def _add(self, step: AnyStep) -> AnyStep:
        self.steps.append(step)
        return step

    def of(self, kind: type[AnyStep]) -> list[AnyStep]:
        """The steps of one kind, in their order."""
        return [step for step in self.steps if isinstance(step, kind)]

    def trained(self, name: str) -> ModelStep:
        """That of a model that the recipe trains."""
        step = self.models[name]
        if not isinstance(step, ModelStep):
            raise KeyError(name)
        return step

    def _documents(self) -> DocumentsStep:
        data, path = self.recipe.data, self.out / "documents"
        notes: list[str] = []
        refining: Refining | None = None
        named: artifact.Settings = {}
        try:
            files = self._files(data.weights, notes, weights=data.weights, exclude=data.exclude)
            digest = self.origins.digest(files)
            if self.recipe.refine is not None:
                refining, named = self._refining(self.recipe.refine, notes)
        except sources.MissingSource as missing:
            if not (path / artifact.MANIFEST).exists():
                raise
            made = artifact.read(path).settings
            self.missing_text, files = missing, []
            digest = str(made["data.sources"])
            named = {key: made[key] for key in NAMED_IN_REFINE if key in made}
        read: dict[str, Any] = {
            "recipe": self.recipe,
            "files": files,
            "notes": notes,
            "refining": refining,
            "named": named,
        }
        if (scorer := self.recipe.scores_documents) is None:
            return DocumentsStep(path=path, digest=digest, **read)
        scores = self._scores(scorer, self._add(self._candidates(read)))
        return ScoredDocumentsStep(path=path, digest=digest, scores=self._add(scores), **read)

    def _candidates(self, read: dict[str, Any]) -> CandidatesStep:
        """What is to be scored, whatever the weights of sources. Raises what is missing where neither is there."""
        path = self.out / "candidates"
        if self.missing_text is None:
            digest = self.origins.digest([replace(file, weight=1.0) for file in read["files"]])
        elif (path / artifact.MANIFEST).exists():
            digest = str(artifact.read(path).settings["data.sources"])
        else:
            raise self.missing_text
        return CandidatesStep(path=path, digest=digest, **read)

    def _scores(self, name: str, candidates: CandidatesStep) -> ScoresStep:
        origin, path = self.recipe.models[name].from_, self.out / "scores" / name
        assert origin is not None
        found = self.origins.find(origin, f"models.{name}.from", path)
        return ScoresStep(recipe=self.recipe, path=path, name=name, origin=found, candidates=candidates)

    def _files(self, patterns: Iterable[str], notes: list[str], **how: Any) -> list[sources.SourceFile]:
        """The files that patterns of the recipe name, read as its sources are."""
        data = self.recipe.data
        return sources.resolve(
            patterns,
            self.base,
            follow_links=data.follow_links,
            skip_empty=data.bad_records == "skip",
            tell=notes.append,
            **how,
        )

    def _refining(self, refine: Refine, notes: list[str]) -> tuple[Refining, artifact.Settings]:
        """The section [refine], and what the files and the function that it names come to."""
        data = self.recipe.data
        named: artifact.Settings = {}
        found: dict[str, list[sources.SourceFile]] = {}
        for key in ("minus", "decontaminate"):
            if patterns := getattr(refine, key):
                try:
                    found[key] = self._files(patterns, notes)
                except RequestError as error:
                    raise type(error)(f"refine.{key}: {error}") from None
                named[f"refine.{key}"] = self.origins.digest(found[key])
        if refine.keep is not None:
            named["refine.keep"] = keep.identity(refine.keep, self.base)
        return Refining(refine, Outside(self.base, data.field, data.bad_records == "skip", **found)), named

    def _tokenizer(self) -> TokenizerStep:
        named, path = self.recipe.tokenizer.from_, self.out / "tokenizer"
        origin = self._tokenizer_origin(named, path) if named is not None else None
        return TokenizerStep(recipe=self.recipe, path=path, origin=origin, documents=self.documents)

    def _tokenizer_origin(self, named: str, path: Path) -> Origin:
        model = self.recipe.models.get(named)
        if model is not None and model.from_ is None:
            raise RequestError(
                f"tokenizer.from = {named!r}: a model that is trained here has no tokenizer of its own; "
                "name an outside model, a folder or a hub id"
            )
        origin = named if model is None or model.from_ is None else model.from_
        kind = self.origins.kind(origin)
        if kind is not None and not kind.has_tokenizer:
            raise RequestError(
                f"tokenizer.from = {named!r}: {kind.noun} provides no tokenizer; name a folder or hub id"
            )
        return self.origins.find(origin, "tokenizer.from", path, ("tokenizer.json",))

    def _tokens(self, split: Split) -> TokensStep:
        return TokensStep(
            recipe=self.recipe,
            path=self.out / "tokens" / split,
            split=split,
            documents=self.documents,
            tokenizer=self.tokenizer,
        )

    def _outside(self, name: str, origin: str, is_start: bool = False) -> OutsideStep:
        path, key = self.out / "models" / name, f"models.{name}"
        path, key = (path / "start", f"{key}.start_from") if is_start else (path / "source", f"{key}.from")
        step = OutsideStep(
            recipe=self.recipe,
            path=path,
            name=name,
            key=key,
            is_start=is_start,
            origin=self.origins.find(origin, key, path),
            tokenizer=self.tokenizer,
            text=self.train_tokens,
        )
        step.check(origin)
        return step

    def _model(self, training: Training, name: str, train: Train) -> ModelStep:
        model = self.recipe.models[name]
        step = ModelStep(
            recipe=training.recipe,
            path=training.folder / "models" / name / "final",
            name=name,
            train=train,
            tokenizer=self.tokenizer,
            text=self.train_tokens,
            validation=self.validation_tokens,
            start=self._start(training, name, model.start_from) if model.start_from is not None else None,
            teachers=_teachers(training, model.teachers),
            targets=self._targets(training, name, model.distill.targets) if model.teachers else None,
        )
        step.check()
        return step

    def _start(self, training: Training, name: str, origin: str) -> AnyModel | None:
        """A model of this recipe; or weights from outside, the same for all trainings."""
        if origin in self.recipe.models:
            return training.models[origin]
        if name in self.models:
            return self.trained(name).start
        return self._add(self._outside(name, origin, is_start=True))

    def _targets(self, training: Training, name: str, how: Targets | None) -> TargetsStep | None:
        """The stored targets of a model's teachers, which all who learn from them share; None: they are not stored."""
        if how is None:
            return None
        model = self.recipe.models[name]
        taught_by, teachers = recipes.join_names(model.teachers), _teachers(training, model.teachers)
        if training is not self.trainings[0] and self.targets[taught_by].teachers == teachers:
            return self.targets[taught_by]
        step = TargetsStep(
            recipe=training.recipe,
            path=training.folder / "targets" / taught_by,
            student=name,
            how=how,
            temperature=model.distill.temperature,
            text=self.train_tokens,
            teachers=teachers,
        )
        there = training.targets.get(taught_by)
        if there is None:
            training.targets[taught_by] = self._add(step)
            return step
        if there.settings != step.settings:
            raise RequestError(
                f"models.{there.student} and models.{name} learn from cached targets of {taught_by} with different "
                "distill.targets, distill.temperature or weights: one teacher has one folder of targets in a run"
            )
        return there

    def _evaluation(self, training: Training, name: str) -> EvaluationStep:
        held_against = self.recipe.held_against(name)
        if any(map(self.recipe.aligned_by_bytes, held_against)):  # there is no KL between different tokens
            held_against = {}
        return EvaluationStep(
            recipe=training.recipe,
            path=training.folder / "models" / name / "evaluation",
            model=training.models[name],
            teachers=_teachers(training, held_against),
            text=self.validation_tokens,
            documents=self.documents,
        )

    def _outside_shape(self, origin: str) -> dict[str, Any] | None:
        """The architecture of a Gemma 2 folder, in the recipe's words; None where there is no folder to read."""
        folder = located(origin, self.base)
        if not (folder / "config.json").is_file():
            return None
        config = read_config(folder, f"start_from = {origin!r}")
        return {key: getattr(config, key) or 0 for key in recipes.Architecture.model_fields if key != "query_scale"} | (
            {"query_scale": config.query_scale}
        )


def _teachers(training: Training, shares: Mapping[str, float]) -> dict[AnyModel, float]:
    return {training.models[name]: share for name, share in shares.items()}
