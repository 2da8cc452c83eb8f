"""What a model of a recipe, trained here or from outside, is to other steps: to start from, to learn from, to ask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemmule.plan.steps import Step
from gemmule.plan.steps.tokenizer import TokenizerStep
from gemmule.plan.steps.tokens import TokensStep
from gemmule.recipe import Model

if TYPE_CHECKING:
    import torch

    from gemmule.convert.card import Outside
    from gemmule.model.config import Gemma2Config
    from gemmule.teach.teachers.shape import Shape
    from gemmule.teach.teachers.teacher import LiveTeacher, Teacher


@dataclass(eq=False, kw_only=True)
class AnyModel(Step):
    name: str  # the model that it is; or that starts from it
    tokenizer: TokenizerStep
    text: TokensStep  # to train on

    @property
    def model(self) -> Model:
        """As the recipe has it."""
        return self.recipe.models[self.name]

    @property
    def top_k(self) -> int | None:
        """How many tokens it names at each position, by the recipe; None: all, as far as its kind is known."""
        return None

    @property
    def recorded_top_k(self) -> int | None:
        """How many tokens it names at each position at most, as was found; None: all."""
        return None

    @property
    def unmeasured(self) -> str | None:
        """Why it can't be evaluated; None: it can."""
        return None

    @property
    def unmeasured_by_recipe(self) -> bool:
        """Whether it can't be evaluated, as far as the recipe tells."""
        return False

    @property
    def tokenizer_folder(self) -> Path:
        """Of the tokenizer whose ids it reads."""
        return self.tokenizer.path

    @property
    def outside(self) -> list[Outside]:
        """The models from outside that its weights go back to: itself, or whom it learned from and started with."""
        return []

    @abstractmethod
    def known_config(self, key: str) -> Gemma2Config | None:
        """Its shape before it is made, asked for by `key`; None while that can't be known."""

    @abstractmethod
    def shape(self, vocabulary_size: int) -> Shape | None:
        """Its parameters and FLOPs, where the run has so many tokens; None where nothing can be known."""

    @abstractmethod
    def folder(self) -> Path:
        """Of a Gemma 2: where its weights lie; not verified."""

    @abstractmethod
    def weights(self) -> Path:
        """`folder`, to be loaded from. Raises RequestError for one that is not what the run recorded."""

    @abstractmethod
    def load(self, device: torch.device) -> Teacher:
        """The model, to be asked what it expects."""

    def try_out(self, loaded: LiveTeacher, text: TokensStep) -> None:
        """Raises WorkError for a teacher that has nothing to teach of a text."""


def by_role(teachers: Mapping[AnyModel, float]) -> dict[str, Step]:
    """The teachers among a step's inputs: "teacher", or of an ensemble "teacher NAME" each."""
    return {f"teacher {teacher.name}" if len(teachers) > 1 else "teacher": teacher for teacher in teachers}
