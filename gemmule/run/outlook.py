"""How much of a run is left: the FLOPs of its steps, counted, at the speed that the run had so far.

Training, stored targets and evaluations are counted; reading and tokenizing text is not, which takes little beside
them. So the first figure comes with the first of these steps, and there is none where a step's work is not known
(a server's).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property

from gemmule.base.progress import Later, followed_by, running_seconds, say
from gemmule.base.units import clock
from gemmule.estimate import shapes
from gemmule.plan.plan import Plan
from gemmule.plan.steps import Step
from gemmule.plan.steps.tokens import TokensStep


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
        work = {each: self._work[each] for each in self.left} if self._counted else {}
        known = {each: flops for each, flops in work.items() if flops is not None}
        together = [step, *step.along]
        own = sum(known.get(each, 0.0) for each in together)
        later = sum(known.values()) - own if len(known) == len(work) else 0.0
        mine = own * (1 - step.share_done)
        place = f"[{self.count - len(self.left) + 1}/{self.count}] {step.path.relative_to(self.plan.out)}"
        left = f", about {clock(self._seconds(mine + later))} left for the whole run" if later and self.flops else ""
        say(place + left)
        began = running_seconds()
        with followed_by(self._later(own, later)):
            yield
        self.left = [each for each in self.left if each not in together]
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
        return all(step.path.exists() for step in self.plan.of(TokensStep))

    @cached_property
    def _shapes(self) -> dict[str, shapes.Shape | None]:
        return shapes.shapes(self.plan, self.plan.train_tokens.shards.vocabulary_size)

    @cached_property
    def _work(self) -> dict[Step, float | None]:
        return {step: self._flops(step) for step in self.left}

    def _flops(self, step: Step) -> float | None:
        """Of a step's whole work; None if that is not known."""
        flops = 0.0
        for model, tokens in step.read_by.items():
            if (shape := self._shapes[model]) is None:
                return None
            flops += shape.flops_per_token * tokens
        return flops
