"""How much of a run is left: the FLOPs of its steps, counted, at the speed that the run had so far.

Training, stored targets and evaluations are counted; reading and tokenizing text is not, which takes little beside
them. So the first figure comes with the first of these steps, and there is none where a step's work is not known
(a server's).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property

from gemmule.base.progress import Later, duration, followed_by, running_seconds, say
from gemmule.estimate import shapes
from gemmule.plan.plan import Plan, Step
from gemmule.tokenize.shards import TokenShards
from gemmule.train import pace


class Outlook:
    """Of the steps that a command makes, in their order."""

    def __init__(self, plan: Plan, steps: Iterable[Step]) -> None:
        self.plan = plan
        self.left = [step for step in steps if not step.path.exists()]
        self.count = len(self.left)
        self.flops, self.seconds = 0.0, 0.0  # of the steps that were made

    @contextmanager
    def making(self, step: Step) -> Iterator[None]:
        """Says which step is made within it, and the time left for the whole run; progress in it says that too."""
        work = {each: self._flops(each) for each in self.left} if self._counted else {}
        known = {each: flops for each, flops in work.items() if flops is not None}
        own = known.get(step, 0.0)
        later = sum(known.values()) - own if len(known) == len(work) else 0.0
        mine = own * (1 - self._done(step))
        place = f"[{self.count - len(self.left) + 1}/{self.count}] {step.path.relative_to(self.plan.out)}"
        left = f", about {duration(self._seconds(mine + later))} left for the whole run" if later and self.flops else ""
        say(place + left)
        began = running_seconds()
        with followed_by(self._later(own, later)):
            yield
        self.left.remove(step)
        if mine:
            self.flops, self.seconds = self.flops + mine, self.seconds + running_seconds() - began

    def _seconds(self, flops: float) -> float:
        return flops * self.seconds / self.flops

    def _later(self, own: float, later: float) -> Later | None:
        """How long what comes after a step takes: at the speed of those before it, or of itself, the first."""
        if not own or not later:
            return None
        return (lambda seconds: self._seconds(later)) if self.flops else (lambda seconds: seconds * later / own)

    @property
    def _counted(self) -> bool:
        """Whether the text's tokens are, of which all else follows."""
        return all(step.path.exists() for step in self.plan.tokens.values())

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {split: len(TokenShards(step.path)) for split, step in self.plan.tokens.items()}

    @cached_property
    def _shapes(self) -> dict[str, shapes.Shape | None]:
        return shapes.shapes(self.plan, TokenShards(self.plan.tokens["train"].path).vocabulary_size)

    def _flops(self, step: Step) -> float | None:
        """Of a step's whole work; None if that is not known."""
        if step.model is None or step.kind not in ("model", "targets", "evaluation"):
            return 0.0
        recipe, model = self.plan.recipe, self.plan.recipe.models[step.model]
        if step.kind == "targets":
            return self._forward(model.teachers, self._tokens["train"])
        if step.kind == "evaluation":
            asked = [step.model, *self.plan.teachers_of(step.model)]
            measured = not any(recipe.models[name].is_served for name in asked)
            return self._forward(asked, self._tokens["validation"]) if measured else 0.0
        assert model.train is not None
        length = recipe.data.sequence_length
        tokens = model.train.steps(length) * model.train.windows_per_batch(length) * length
        own = self._forward([step.model], 3 * tokens)
        beside = self._forward(model.teachers if model.distill.targets is None else (), tokens)
        return None if own is None or beside is None else own + beside

    def _forward(self, models: Iterable[str], tokens: int) -> float | None:
        known = [self._shapes[name] for name in models]
        return None if None in known else sum(shape.flops_per_token for shape in known if shape is not None) * tokens

    def _done(self, step: Step) -> float:
        """The share of a training that checkpoints hold already."""
        train = self.plan.recipe.models[step.model].train if step.kind == "model" and step.model else None
        if train is None or not step.checkpoints:
            return 0.0
        return min(1.0, pace.step_of(step.checkpoints[-1]) / train.steps(self.plan.recipe.data.sequence_length))
