"""The plan of a run: from a recipe to the steps that make its artifacts, each after its inputs.

    documents -> tokenizer -> tokens -> models (each: outside weights | targets, training) -> evaluations

A step knows where its artifact lies and the settings and inputs that make it what it is; how it is made stands in
`steps.py`, and when in `family.py`. Whatever can be checked about the recipe, the text and outside models before any
work is checked here. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemmule import recipe as recipes
from gemmule.base import addresses, artifact
from gemmule.base.artifact import Artifact, Settings
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import PatientMeter
from gemmule.base.run_folder import FINGERPRINTS, RECIPE, run_of
from gemmule.model.config import Gemma2Config, check_cut
from gemmule.recipe import Recipe, flatten
from gemmule.refine import sources
from gemmule.teach.teachers import outside
from gemmule.train import pace

NOT_IDENTITY = tuple(
    f"train.{key}"
    for key in (
        "checkpoint_every",
        "checkpoint_minutes",
        "keep_last",
        "keep_every",
        "keep_best",
        "recompute_activations",
    )
)  # keys of a model that change nothing about the weights
WEIGHTS = ("config.json", "*.safetensors", "*.safetensors.index.json")  # the files of a model that it is known by
# keys of how text is read, and not of the text; what is skipped does not count as another text: metrics.jsonl tells it
OF_WINDOWS = ("data.sequence_length", "data.separate_documents", "data.damaged")
# and how it is found, which the digest of what is found covers
NOT_OF_TEXT = (*OF_WINDOWS, "data.exclude", "data.follow_links")


@dataclass(eq=False)
class Step:
    """One artifact to be: where it lies and what makes it what it is."""

    kind: str
    path: Path
    settings: Settings
    inputs: dict[str, Step] = field(default_factory=dict)
    model: str | None = None  # the model that it belongs to
    source: Path | str | None = None  # of something from outside: its folder or hub id

    @property
    def artifact(self) -> Artifact:
        """What this step made. Raises WorkError if it is not there or damaged."""
        return artifact.read(self.path)

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """What this step is made from."""
        return {role: step.artifact for role, step in self.inputs.items()}

    @property
    def checkpoints(self) -> list[Path]:
        """Of a model whose training was interrupted: what it left, oldest first."""
        return pace.found(self.path.parent / "checkpoints") if self.kind == "model" else []


class Plan:
    """The steps of a recipe in a run folder, and what they need to know of each other."""

    def __init__(
        self, raw: dict[str, Any], origin: Path, out: Path | None = None, fingerprints: dict[str, Any] | None = None
    ) -> None:
        """`raw` is the recipe's TOML, read from `origin`. Raises RequestError for what can't be run as it is.

        `fingerprints` are those of another plan, beside those in `out`: so that large files are hashed but once.
        """
        self.base = origin.absolute().parent  # what the recipe names is relative to it, wherever a step looks from
        self.recipe: Recipe = recipes.parse(raw, str(origin), self._outside_shape)
        self.out = out if out is not None else run_of(origin) or Path("runs") / self.recipe.name
        self.fingerprints = _read_fingerprints(self.out / FINGERPRINTS) | (fingerprints or {})
        self.text_notes: list[str] = []  # what was left out of the sources
        self.files, self.missing_text = self._resolve_text()
        self.steps: list[Step] = []
        self._lay_out()

    def _lay_out(self) -> None:
        recipe = self.recipe
        data = {key: value for key, value in flatten(recipe.data, "data").items() if key not in NOT_OF_TEXT}
        if recipe.data.bad_records == "stop":  # as before there was this key
            del data["data.bad_records"]
        data["data.sources"] = self._text_digest()
        self.documents = documents = self._add(Step("documents", self.out / "documents", data))
        self.tokenizer = tokenizer = self._add(self._tokenizer(documents))
        self.outside = {
            name: self._add(self._outside(name, model.from_, f"models.{name}.from", "source"))
            for name, model in recipe.models.items()
            if model.from_ is not None
        }
        inputs = {"documents": documents, "tokenizer": tokenizer}
        self.tokens = {
            split: self._add(Step("tokens", self.out / "tokens" / split, {"split": split}, inputs))
            for split in ("train", "validation")
        }
        self.trained: dict[str, Step] = {}
        self.targets: dict[str, Step] = {}
        for name in recipe.order():
            if name not in self.outside:
                self.trained[name] = self._add(self._training(name, tokenizer))
        for name in recipe.models:
            self._add(self._evaluation(name, tokenizer))

    def _add(self, step: Step) -> Step:
        self.steps.append(step)
        return step

    def _tokenizer(self, documents: Step) -> Step:
        section = self.recipe.tokenizer
        path = self.out / "tokenizer"
        if section.from_ is None:
            return Step(
                "tokenizer", path, {"tokenizer.vocabulary_size": section.vocabulary_size}, {"documents": documents}
            )
        model = self.recipe.models.get(section.from_)
        if model is not None and model.from_ is None:
            raise RequestError(
                f"tokenizer.from = {section.from_!r}: a model that is trained here has no tokenizer of its own; "
                "name an outside model, a folder or a hub id"
            )
        origin = section.from_ if model is None or model.from_ is None else model.from_
        if addresses.is_url(origin):
            raise RequestError(
                f"tokenizer.from = {section.from_!r}: a server provides no tokenizer; name a folder or hub id"
            )
        source, digest = self._locate(origin, "tokenizer.from", ("tokenizer.json",))
        if section.prune:
            settings = {"tokenizer.from": digest, "tokenizer.prune": True}
            return Step("tokenizer", path, settings, {"documents": documents}, source=source)
        return Step("tokenizer", path, {"tokenizer.from": digest}, source=source)

    def _outside(self, name: str, origin: str, key: str, place: str) -> Step:
        """A model from elsewhere, recorded by the hashes of its files. Weights to start from are a Gemma 2's."""
        source, digest = self._locate(origin, key, WEIGHTS)
        settings: Settings = {key: digest}
        if isinstance(source, Path) and source.is_dir():
            if place == "start":
                _read_config(source, key)
            try:
                outside.check_folder(source, self.recipe.data.sequence_length)
                outside.check_writing(source, self.recipe.evaluate.sample_tokens)
            except RequestError as error:
                raise RequestError(f"{key} = {origin!r}: {error}") from None
        elif addresses.is_url(origin):
            if place == "start":
                raise RequestError(f"{key} = {origin!r}: a server provides no weights")
            settings[f"models.{name}.top_k"] = self.recipe.models[name].top_k
        if place == "source" and self.recipe.aligned_by_bytes(name):
            settings["vocabulary"] = "its own"
        elif place == "source" and self.recipe.models[name].by_bytes:
            settings["vocabulary"] = "by bytes"
        path = self.out / "models" / name / place
        return Step("outside", path, settings, {"tokenizer": self.tokenizer}, model=name, source=source)

    def _training(self, name: str, tokenizer: Step) -> Step:
        recipe, model = self.recipe, self.recipe.models[name]
        assert model.train is not None
        folder = self.out / "models" / name
        inputs = {"tokens": self.tokens["train"], "validation": self.tokens["validation"], "tokenizer": tokenizer}
        settings: Settings = {"seed": recipe.seed, **self._window_settings()}
        unsaid = {"like", "from_", "start_from", "distill", "by_bytes", "worse_than_unigram"}
        identity = model.model_dump(mode="json", by_alias=True, exclude=unsaid)
        settings |= flatten(identity, f"models.{name}")
        if model.start_from is not None:
            start = self._start(name, model.start_from)
            inputs["start_from"] = start
            settings[f"models.{name}.start_from"] = model.start_from
        if model.teachers:
            settings |= flatten(model.distill, f"models.{name}.distill")
            if model.distill.token_weights == "equal":  # as before there was this key
                del settings[f"models.{name}.distill.token_weights"]
            if model.distill.targets is None:
                inputs |= self._teachers(model.teachers)
            else:
                inputs["targets"] = self._targets(name, tokenizer)
        if model.train.optimizer == "adamw":  # as before there was another
            del settings[f"models.{name}.train.optimizer"]
        for key in NOT_IDENTITY:
            settings.pop(f"models.{name}.{key}", None)
        return Step("model", folder / "final", settings, inputs, model=name)

    def _start(self, name: str, origin: str) -> Step:
        """Where a model's weights start: a model of this recipe or from outside, of its shape or to cut it from."""
        key = f"models.{name}.start_from"
        inside = origin in self.recipe.models
        step = self.model_step(origin) if inside else self._add(self._outside(name, origin, key, "start"))
        wanted, source = self.recipe.models[name].architecture, self._known_config(origin, key)
        if wanted is not None and source is not None:
            try:
                check_cut(source, gemma2_config(wanted, source.vocabulary_size, source.context_length))
            except RequestError as error:
                raise RequestError(f"{key} = {origin!r}: architecture.{error}") from None
        return step

    def _known_config(self, origin: str, key: str) -> Gemma2Config | None:
        """The shape of the model that another starts from; None while it is no folder here."""
        model = self.recipe.models.get(origin)
        if model is None:
            folder = self.locate(origin)
            return _read_config(folder, key) if folder.is_dir() else None
        if model.architecture is not None:
            return gemma2_config(model.architecture, 1, 1)  # all models of a run share a vocabulary
        start = model.from_ or model.start_from
        return self._known_config(start, key) if start is not None else None

    def _teachers(self, weights: Mapping[str, float]) -> dict[str, Step]:
        """The steps of one teacher, or of the members of an ensemble, by their roles."""
        roles = ["teacher"] if len(weights) == 1 else [f"teacher {name}" for name in weights]
        return dict(zip(roles, map(self.model_step, weights), strict=True))

    def _targets(self, name: str, tokenizer: Step) -> Step:
        """The stored targets of a teacher: one folder, which all of its students read."""
        model = self.recipe.models[name]
        assert model.distill.targets is not None
        settings: Settings = {
            "seed": self.recipe.seed,
            **self._window_settings(),
            "distill.temperature": model.distill.temperature,
            **flatten(model.distill.targets, "distill.targets"),
            **({"learn_from": model.teachers} if len(model.teachers) > 1 else {}),
        }
        taught_by = recipes.join_names(model.teachers)
        step = self.targets.get(taught_by)
        if step is None:
            inputs = {"tokens": self.tokens["train"], "tokenizer": tokenizer, **self._teachers(model.teachers)}
            step = self._add(Step("targets", self.out / "targets" / taught_by, settings, inputs, model=name))
            self.targets[taught_by] = step
        elif step.settings != settings:
            raise RequestError(
                f"models.{step.model} and models.{name} learn from cached targets of {taught_by} with different "
                "distill.targets, distill.temperature or weights: one teacher has one folder of targets in a run"
            )
        return step

    def _evaluation(self, name: str, tokenizer: Step) -> Step:
        settings: Settings = {"seed": self.recipe.seed, **self._window_settings()}
        settings |= flatten(self.recipe.evaluate, "evaluate")
        inputs = {"model": self.model_step(name), "validation": self.tokens["validation"], "tokenizer": tokenizer}
        inputs["documents"] = self.documents
        teachers = self.teachers_of(name)
        if not any(map(self.recipe.aligned_by_bytes, teachers)):  # there is no KL between different tokens
            inputs |= self._teachers(teachers)
        return Step("evaluation", self.out / "models" / name / "evaluation", settings, inputs, model=name)

    def _window_settings(self) -> Settings:
        """How text is read. What is off leaves no trace: a run made before the key existed stays as it is."""
        data = self.recipe.data
        separate: Settings = {"data.separate_documents": True} if data.separate_documents else {}
        return {"data.sequence_length": data.sequence_length, **separate}

    def model_step(self, name: str) -> Step:
        return self.outside[name] if name in self.outside else self.trained[name]

    def teachers_of(self, name: str) -> Mapping[str, float]:
        """Those that a model is held against: its own, or those of the students that it is the control of."""
        model = self.recipe.models[name]
        if model.teachers:
            return model.teachers
        kin = [other for other, entry in self.recipe.models.items() if name in (entry.like,) or other == model.like]
        found = [weights for other in kin if (weights := self.recipe.models[other].teachers) and name not in weights]
        return found[0] if found and all(weights == found[0] for weights in found) else {}

    # --- things from outside -------------------------------------------------------------------------------------

    def locate(self, path: str) -> Path:
        """Where a path of the recipe lies, which may be nothing, or a hub id's."""
        return self.base / Path(path).expanduser()

    def _locate(self, origin: str, key: str, patterns: Iterable[str]) -> tuple[Path | str, str]:
        """Where something from outside lies, and what identifies it: the hashes of its files, its hub id or address."""
        if addresses.is_url(origin):
            addresses.check_address(origin, key)
            return origin, f"server: {origin}"
        place = self.locate(origin)
        if place.is_dir():
            if not (files := model_files(place, patterns)):
                raise RequestError(f"{key} = {origin!r}: {place} has no {' or '.join(patterns)}")
            return place, self._digest(files)
        if place.is_file():
            with place.open("rb") as file:
                if file.read(4) != b"GGUF":
                    raise RequestError(f"{key} = {origin!r}: not a GGUF file; name a folder, a GGUF file or a hub id")
            return place, self._digest(model_files(place))
        if (recorded := self._recorded(key, place)) is not None:  # gone since, which matters once it is loaded again
            return place, recorded
        if origin.count("/") != 1 or origin.startswith((".", "/", "~")):
            raise RequestError(f"{key} = {origin!r}: no such folder or file (looked in {self.base})")
        return origin, f"hub: {origin}"

    def _recorded(self, key: str, place: Path) -> str | None:
        """What identified the files that this run began with, if it is `place` where they were."""
        kind, _, name = key.removesuffix(".from").removesuffix(".start_from").partition(".")
        made = self.out / kind / name / ("start" if key.endswith(".start_from") else "source" if name else "")
        try:
            began = tomllib.loads((self.out / RECIPE).read_text(encoding="utf-8"))
            named = [section.get("from") for section in (began["tokenizer"], *began["models"].values())]
            return str(artifact.read(made).settings[key]) if str(place) in named else None
        except (OSError, ValueError, KeyError, AttributeError, WorkError):
            return None

    def _outside_shape(self, origin: str) -> dict[str, Any] | None:
        """The architecture of a Gemma 2 folder, in the recipe's words; None where there is no folder to read."""
        folder = self.locate(origin)
        if not (folder / "config.json").is_file():
            return None
        config = _read_config(folder, f"start_from = {origin!r}")
        return {key: getattr(config, key) or 0 for key in recipes.Architecture.model_fields if key != "query_scale"} | (
            {"query_scale": config.query_scale}
        )

    def _resolve_text(self) -> tuple[list[sources.SourceFile], RequestError | None]:
        """The files to read; none, and what is missing, where they are gone but the documents were made of them."""
        data = self.recipe.data
        try:
            found = sources.resolve(
                data.sources,
                self.base,
                exclude=data.exclude,
                follow_links=data.follow_links,
                skip_empty=data.bad_records == "skip",
                tell=self.text_notes.append,
            )
            return found, None
        except sources.MissingSource as missing:
            if not (self.out / "documents" / artifact.MANIFEST).exists():
                raise
            return [], missing

    def _text_digest(self) -> str:
        if self.missing_text is not None:
            return str(artifact.read(self.out / "documents").settings["data.sources"])
        return self._digest(self.files)

    def _digest(self, files: list[sources.SourceFile]) -> str:
        return digest(files, self.fingerprints)


def digest(files: Sequence[sources.SourceFile], known: dict[str, Any]) -> str:
    """Identifies files by their contents, whatever their names: "42 files, 5212345 bytes, sha256 0123...".

    `known`: fingerprints by path, looked into and added to, so that a file that did not change is not read again.
    """
    whole, size = hashlib.sha256(), 0
    with PatientMeter("hashing files", sum(file.path.stat().st_size for file in files if file.path.exists())) as meter:
        for file in files:
            key = sources.printable(file.path.resolve())
            fingerprint = known[key] = sources.fingerprint(file, known.get(key), meter.beyond(size))
            whole.update(fingerprint["sha256"].encode())
            size += fingerprint["size"]
    return f"{len(files)} file{'' if len(files) == 1 else 's'}, {size} bytes, sha256 {whole.hexdigest()[:16]}"


def model_files(place: Path, patterns: Iterable[str] = WEIGHTS) -> list[sources.SourceFile]:
    """The files that an outside model is known by: those in its folder, or itself, where it is a GGUF file."""
    paths = sorted(path for pattern in patterns for path in place.glob(pattern)) if place.is_dir() else [place]
    return [sources.SourceFile(path, str(path)) for path in paths]


def gemma2_config(shape: recipes.Architecture, vocabulary_size: int, context_length: int) -> Gemma2Config:
    """A recipe's architecture as the model's configuration; a cap of 0 is none."""
    values = shape.model_dump()
    for cap in ("attention_cap", "final_cap"):
        values[cap] = values[cap] or None
    return Gemma2Config(**values, vocabulary_size=vocabulary_size, context_length=context_length)


def _read_config(folder: Path, key: str) -> Gemma2Config:
    try:
        return Gemma2Config.from_huggingface(outside.read_config(folder))
    except RequestError as error:
        raise RequestError(f"{key}: {folder} is not a Gemma 2 folder: {error}") from None


def _read_fingerprints(path: Path) -> dict[str, Any]:
    """Hashes of large files, kept so that they are not read again; worth nothing if damaged."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
