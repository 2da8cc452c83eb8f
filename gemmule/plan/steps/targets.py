"""The stored targets of a teacher, or of an ensemble: one folder, which all of its students read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from gemmule.base import ranks
from gemmule.base.artifact import Settings
from gemmule.base.errors import RequestError
from gemmule.plan.steps import Step
from gemmule.plan.steps.any_model import AnyModel, by_role
from gemmule.plan.steps.tokens import TokensStep, of_windows
from gemmule.recipe import Targets, identity, join_names

if TYPE_CHECKING:
    from gemmule.teach.teachers.teacher import Teacher
    from gemmule.teach.teaching import Teaching


@dataclass(eq=False, kw_only=True)
class TargetsStep(Step):
    kind: ClassVar[str] = "targets"
    verb: ClassVar[str] = "teach"
    computes: ClassVar[bool] = True
    student: str  # the first model that reads them, whose keys say how they are made
    how: Targets
    temperature: float
    text: TokensStep  # to train on
    teachers: Mapping[AnyModel, float]

    @cached_property
    def settings(self) -> Settings:
        shares = {teacher.name: share for teacher, share in self.teachers.items()}
        return {
            **of_windows(self.recipe),
            "distill.temperature": self.temperature,
            **identity(self.how, "distill.targets"),
            **({"learn_from": shares} if len(shares) > 1 else {}),
        }

    @cached_property
    def inputs(self) -> Mapping[str, Step]:
        return {"tokens": self.text, "tokenizer": self.text.tokenizer, **by_role(self.teachers)}

    @property
    def read_by(self) -> Mapping[str, int]:
        tokens = len(self.text.shards)
        return {teacher.name: tokens for teacher in self.teachers}

    def belongs_to(self, models: Collection[str]) -> bool:
        return self.path.name in {join_names(self.recipe.models[name].teachers) for name in models}

    def make(self) -> None:
        teaching = self.teaching()
        teaching.prepare()
        with ranks.together(str(self.path)):
            teaching.teach(ranks.rank(), ranks.size())
        teaching.publish()

    def take_part(self) -> None:
        """What another process than the first does while that one makes them: its share of the segments."""
        self.teaching().teach(ranks.rank(), ranks.size())

    def teaching(self) -> Teaching:
        """Their making, by this process or by many. The step's inputs are there."""
        from gemmule.base.device import choose_device
        from gemmule.plan.loading import load_tried_teachers
        from gemmule.teach.teachers.vocabulary import say_lost_mass
        from gemmule.teach.teaching import Teaching

        self._check_top_k()
        windows, made = self.text.windows(), self.artifacts
        run = self.text.path.parent.parent  # of tokens/train

        def load() -> Teacher:
            device = choose_device(self.recipe.machine.device)
            teacher = load_tried_teachers(self.teachers, self.text, device)
            say_lost_mass(self.path.name, teacher, windows)
            return teacher

        return Teaching(
            path=self.path,
            settings=self.settings,
            inputs=made,
            teachers=[made[role] for role in by_role(self.teachers)],
            windows=windows,
            load=load,
            how=self.how,
            temperature=self.temperature,
            seed=self.recipe.seed,
            old_targets=run / "old" / self.path.parent.relative_to(run),
            old_tokens=run / "old" / self.text.path.parent.relative_to(run),
        )

    def _check_top_k(self) -> None:
        """Raises RequestError where a server gives fewer tokens than are to be stored."""
        for teacher in self.teachers:
            given = teacher.recorded_top_k
            if given is not None and given < (self.how.k or 0):
                raise RequestError(
                    f"models.{self.student}.distill.targets.k = {self.how.k}: {teacher.name} gives its top {given} at "
                    "most (vLLM's --max-logprobs)"
                )
