"""Runs a recipe: skips what is already made, resumes what is not, refuses to mix settings.

Before any work the whole plan (`plan/`) is compared with what lies in the run folder: what matches is skipped; where
settings changed, it is said what differs and what would be remade. Then each missing step is made (`plan/steps/`), in
order, and published whole; the same command after an interruption finishes the rest.

Nothing here imports torch: a run that has nothing to do says so at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemmule import recipe as recipes
from gemmule.base import artifact, ranks, run_folder, signals
from gemmule.base.errors import RequestError, WorkError
from gemmule.base.locks import lock
from gemmule.base.progress import say
from gemmule.base.run_folder import RECIPE
from gemmule.plan import prerequisites
from gemmule.plan.plan import Plan
from gemmule.plan.steps import Step
from gemmule.plan.steps.documents import DocumentsStep
from gemmule.plan.steps.model import ModelStep
from gemmule.plan.steps.targets import TargetsStep
from gemmule.run import status
from gemmule.run.going_on import go_back, goes_on, hints, lost
from gemmule.run.recorded import RecordedRecipe
from gemmule.train.tracking import import_tracker

if TYPE_CHECKING:
    from gemmule.teach.teaching import Teaching

REPORT, SUMMARY = "report.html", "summary.json"


@dataclass(frozen=True)
class Worker:
    """Which of several processes this one is, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Worker:
        """ "3/16". Raises RequestError."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise RequestError(f"--worker {text}: should be NUMBER/COUNT with a number from 1 to the count, as in 3/16")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"worker {self.number}/{self.count}"


def report(folder: Path) -> Path:
    """Writes `report.html` of a run folder, finished or not, and gives its path. Takes no lock: a run may go on."""
    if not (folder / RECIPE).is_file():
        raise RequestError(f"{folder}: not a run folder: it has no {RECIPE}")
    if not run_folder.is_run(folder):
        raise RequestError(f"{folder}: not a run folder: gemmule made nothing in it")
    artifact.check_writable(folder / REPORT)
    from gemmule.run.summary import write_report_so_far

    write_report_so_far(Plan(recipes.read(folder / RECIPE), folder / RECIPE, folder))
    return folder / REPORT


class Family:
    """A recipe's models and the folder that they are made in."""

    def __init__(self, raw: dict[str, Any], origin: Path, out: Path | None = None) -> None:
        """`raw` is the recipe's TOML, read from `origin`. Raises RequestError for what can't be run as it is."""
        self.raw, self.origin = raw, origin
        self.plan = Plan(raw, origin, out)
        self.out = self.plan.out
        self.recorded = RecordedRecipe(self.plan, raw, origin)

    @classmethod
    def from_file(
        cls, path: Path, overrides: Iterable[str] = (), out: Path | None = None, allow_code: bool = False
    ) -> Family:
        """`allow_code`: whether a function of the user's that the recipe names may run."""
        family = cls(recipes.read(path, overrides), path, out)
        for step in family.plan.of(DocumentsStep):
            step.allow_code = allow_code
        return family

    def chosen(self, verb: str | None, models: Iterable[str] = ()) -> list[Step]:
        """The steps of one verb (all for None) for some models (all if none are named), and all that they need."""
        wanted = set(models)
        for name in wanted:
            if name not in self.plan.recipe.models:
                raise RequestError(f"--model {name}: no such model; there are: {', '.join(self.plan.recipe.models)}")
        if verb is None:
            return list(self.plan.steps)
        ends = [step for step in self.plan.steps if step.verb == verb]
        if wanted:
            ends = [step for step in ends if step.belongs_to(wanted)]
        if not ends:
            raise RequestError(f"{verb}: this recipe has nothing to {verb}" + _teach_hint(verb))
        needed: set[Step] = set()
        queue = list(ends)
        while queue:
            step = queue.pop()
            if step not in needed:
                needed.add(step)
                queue += step.inputs.values()
        return [step for step in self.plan.steps if step in needed]

    def compare(
        self, steps: Iterable[Step], found: Mapping[Step, list[str]] = {}
    ) -> tuple[list[Step], dict[Step, list[str]]]:
        """Which steps have nothing made yet; and which, beside those found before, must be remade, and why."""
        missing: list[Step] = []
        stale = dict(found)
        for step in steps:
            follows = [role for role, source in step.inputs.items() if source in stale]
            known = all(source.path.exists() for source in step.inputs.values())
            there = step.path if step.path.exists() else step.begun
            if there is None:
                missing.append(step)
                continue
            kind = step.kind if there == step.path else "checkpoint"
            try:
                made = artifact.read(there)
            except WorkError:
                if kind == step.kind:
                    raise
                missing.append(step)  # a damaged checkpoint: training sets it aside and takes the one before
                continue
            hashes = step.input_hashes if known else made.manifest.inputs
            reasons = artifact.differences(made, kind, step.settings, made.manifest.inputs if follows else hashes)
            if reasons and not follows and there == step.meeting_point:
                missing.append(step)  # begun for another number of tokens, and no further than both go
            elif reasons or follows:
                stale[step] = [reason + self.recorded.moved(reason) for reason in reasons] or [
                    f"its {', '.join(follows)} would be remade"
                ]
            elif there != step.path:
                missing.append(step)
        return missing, stale

    def run(
        self, verb: str | None = None, models: Iterable[str] = (), remake: bool = False, force: bool = False
    ) -> None:
        """Makes what is missing. Raises RequestError where settings changed and `remake` is not given; and, without
        `force`, where that can't fit into this machine.
        """
        if ranks.rank():
            self._take_part()
            return
        steps = self.chosen(verb, models)
        self.recorded.check()
        if run_folder.is_run(self.out):
            with lock(self.out):
                status.correct(self.out)
        self._check_machine(steps, remake, force)
        with lock(self.out), status.kept(self.out):
            missing, stale = self.compare(steps)
            if stale:  # and what was made from it, asked for or not
                others = [step for step in self.plan.steps if step not in steps and _made_from(step, stale)]
                _, stale = self.compare(others, stale)
            if lost(stale) and not remake:
                raise RequestError(self._explain(stale))
            if (missing_text := self.plan.missing_text) is not None:
                if self.plan.documents in stale:
                    raise missing_text
                say(f"{missing_text}; continuing with {self.plan.documents.path}, which was made from it")
            with signals.deferred():  # the recipe first: what it no longer makes is never made anew by an older one
                self.recorded.write()
                for step in stale:
                    go_back(step, self.out) if goes_on(step, stale) else self._retire(step)
                if stale:
                    self._retire_results()
            if missing or stale:
                self._make(steps)
            if verb is None:
                self._report(force=bool(missing or stale))
            elif not (missing or stale):
                say(f"{verb}: nothing to do; it is made in {self.out}")
            elif (self.out / SUMMARY).exists() and all(step.path.exists() for step in self.plan.steps):
                self._report(force=True)  # what is there tells of less

    def _check_machine(self, steps: list[Step], remake: bool = False, force: bool = False) -> None:
        """Raises RequestError where what is still to be made needs what this machine lacks: an extra, a device, room.

        Several processes share a model, so whether it fits is not judged then; nor with `force`.
        """
        missing, stale = self.compare(steps)
        if not (missing or stale) or (lost(stale) and not remake):
            return
        prerequisites.check([*missing, *stale], self.plan)
        if ranks.size() == 1 and not force:
            from gemmule.estimate import fits

            fits.check(self.plan, [*missing, *stale])

    def _take_part(self) -> None:
        """Another process than the first does its part of what the first one calls for, to the end."""
        _import_torch()
        together: list[TargetsStep | ModelStep] = [*self.plan.of(TargetsStep), *self.plan.of(ModelStep)]
        shared = {str(step.path): step for step in together}
        for path in ranks.calls():
            shared[path].take_part()

    def teach(self, worker: Worker, models: Iterable[str] = (), force: bool = False) -> None:
        """One worker's share of the targets.

        That is what comes before them, if nobody has made it; its own segments, at the same time as other workers; and
        if these were the last, the finished targets.
        """
        steps = self.chosen("teach", models)
        needed = {source for step in steps for source in step.inputs.values()}
        targets = [step for step in steps if step not in needed and isinstance(step, TargetsStep)]
        self.recorded.check()
        self._check_machine(steps, force=force)
        with lock(self.out, shared=True, wait=say):
            status.correct(self.out)
            _, stale = self.compare(steps)
            ready = not stale and all(self._prepared(step) for step in targets)
        if not ready:
            with lock(self.out, wait=say):
                _, stale = self.compare(steps)
                if stale:
                    raise RequestError(self._explain(stale))
                self.recorded.write()
                self._make([step for step in steps if step in needed])
                for step in targets:
                    if not step.path.exists():
                        self._teaching(step).prepare()
        for step in targets:
            with lock(self.out, shared=True, wait=say):
                if step.path.exists():
                    say(f"{self._where(step)}: made")
                    continue
                teaching = self._teaching(step)
                teaching.teach(worker.number - 1, worker.count)
                left = teaching.parts.absent
            if left:
                say(f"{self._where(step)}: {worker}'s segments are done; {left} of other workers are not")
                continue
            with lock(self.out, wait=say):
                if not step.path.exists():
                    teaching.publish()

    def _where(self, step: TargetsStep) -> str:
        """What targets are called: whose they are, and of which further training."""
        folder = step.path.parent.parent
        return f"targets of {step.path.name}" + ("" if folder == self.out else f" in {folder.relative_to(self.out)}")

    def _prepared(self, step: TargetsStep) -> bool:
        """Whether these targets are made, or nothing but teaching is left to do."""
        if step.path.exists():
            return True
        return all(source.path.exists() for source in step.inputs.values()) and self._teaching(step).parts.prepared

    def _teaching(self, step: TargetsStep) -> Teaching:
        _import_torch()
        return step.teaching()

    def _make(self, steps: list[Step]) -> None:
        track = self.plan.recipe.machine.track
        if track != "none" and any(isinstance(step, ModelStep) and not step.path.exists() for step in steps):
            import_tracker(track)  # whether it is there, before any work
        _import_torch()
        from gemmule.run.outlook import Outlook

        outlook = Outlook(self.plan, steps)
        for step in steps:
            signals.check()
            _, stale = self.compare([step])  # its inputs may have come out otherwise than when it was made
            if stale:
                raise RequestError(self._explain(stale))
            if not step.path.exists():
                with outlook.making(step):
                    step.path.parent.mkdir(parents=True, exist_ok=True)
                    step.make()

    def _report(self, force: bool) -> None:
        report = self.out / REPORT
        if not force and report.exists() and (self.out / SUMMARY).exists():
            say(f"nothing to do: everything in {self.out} is made. Open {report}")
            return
        from gemmule.run.summary import write_summary_and_report

        write_summary_and_report(self.plan)
        say(f"done. Open {report}")

    def _explain(self, stale: dict[Step, list[str]]) -> str:
        lines = [f"{self.out} was made with other settings:"]
        for step, reasons in stale.items():
            lines += [f"  {step.path.relative_to(self.out)}: {reason}" for reason in reasons]
            lines += [f"  {hint}" for hint in hints(step, stale)]
        lines.append("Nothing was changed. --remake moves these to old/ and remakes them; --out runs elsewhere.")
        return "\n".join(lines)

    def _retire(self, step: Step) -> None:
        place = step.made_in
        if place.exists():
            moved = artifact.retire(place, self.out / "old" / place.relative_to(self.out).parent)
            say(f"moved {place} to {moved}")

    def _retire_results(self) -> None:
        """The report and the summary tell of what went to old/."""
        for path in (self.out / REPORT, self.out / SUMMARY):
            if path.exists():
                artifact.retire(path, self.out / "old")


def _import_torch() -> None:
    """Before a step does: half an import would be an error of its own."""
    with signals.deferred():
        import torch  # noqa: F401


def _made_from(step: Step, roots: Iterable[Step]) -> bool:
    return step in roots or any(_made_from(source, roots) for source in step.inputs.values())


def _teach_hint(verb: str) -> str:
    return " (no student has distill.targets)" if verb == "teach" else ""
