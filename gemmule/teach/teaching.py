"""The targets of a teacher, made: prepared once, taught by one process or by many at once, published by the last.

    prepare   what all share: a coding solved for the budget, or that of earlier targets of the same text's beginning
    teach     the segments that are missing (`distill/parts.py`): a kill costs a minute, and the windows just read
    publish   all segments as one artifact

`gemmule run` and `gemmule teach` do the three in a row, alone in the run folder; a worker of several teaches its own
segments together with the others (`family.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmule.base import artifact
from gemmule.base.artifact import Artifact, Settings
from gemmule.base.errors import WorkError
from gemmule.base.progress import Meter, human, say
from gemmule.recipe import Targets
from gemmule.teach.targets.parts import Parts, common_tokens
from gemmule.teach.targets.sampling import Scheme
from gemmule.teach.targets.solving import coding_of, sample, solve
from gemmule.teach.targets.store import FORMAT, TargetStore
from gemmule.teach.teachers.teacher import Teacher
from gemmule.tokenize.shards import TokenShards
from gemmule.tokenize.windows import Windows


@dataclass
class Teaching:
    """One folder of targets, and all that it follows from."""

    path: Path
    settings: Settings
    inputs: dict[str, Artifact]  # tokens, tokenizer, teachers
    teachers: list[Artifact]  # of these
    windows: Windows
    load: Callable[[], Teacher]
    how: Targets  # how much is kept, and how
    temperature: float
    seed: int
    old_targets: Path  # where the run keeps targets of this place that it no longer needs
    old_tokens: Path  # and tokens

    def __post_init__(self) -> None:
        self.name = self.path.name
        self.parts = Parts(self.path.with_name(f".{self.name}.parts"), self.windows, self._identity())
        self._teacher: Teacher | None = None

    @property
    def teacher(self) -> Teacher:
        if self._teacher is None:
            self._teacher = self.load()
        return self._teacher

    def prepare(self) -> None:
        """Nothing, if it is done. Raises RequestError if the budget is too small."""
        if self.parts.prepared:
            return
        earlier = self._earlier()
        if earlier is not None:
            store = TargetStore(earlier.path)
            self.parts.prepare(store.coding, self.temperature, self.how.rest)
            self._take_over(earlier, store)
            return
        examples = sample(self.teacher, self.windows, temperature=self.temperature, seed=self.seed)
        if self.how.setting is not None:
            coding = coding_of(Scheme(self.how.kind, self.how.setting), examples, self.seed)
        else:
            assert self.how.bytes_per_token is not None
            tokens = len(self.windows.shards)
            coding = solve(examples, self.how.kind, self.how.bytes_per_token, tokens, self.seed)
        self.parts.prepare(coding, self.temperature, self.how.rest)

    def teach(self, first: int = 0, step: int = 1) -> None:
        """Makes every `step`-th segment from the `first` on, where it is missing."""
        mine = range(first, len(self.parts), step)
        missing = self.parts.missing(mine)
        if not missing:
            return
        total = sum(len(self.parts.rows(number)) for number in mine)
        done = total - sum(len(self.parts.rows(number)) for number in missing)
        with Meter(f"targets of {self.name}", total, done=done) as meter:

            def progress(tokens: int) -> None:
                nonlocal done
                done += tokens
                meter.update(done)

            self.parts.teach(self.teacher, missing, self.seed, progress)

    def publish(self) -> None:
        with artifact.publish(self.path, "targets", settings=self.settings, inputs=self.inputs) as folder:
            self.parts.merge(folder)
        self.parts.remove()
        say(f"targets of {self.name}: {TargetStore(self.path).bytes_per_token:.1f} bytes per token")

    def _identity(self) -> dict[str, Any]:
        """What targets are made from; the teacher by its description too, for its hash may be of a path alone."""
        made_from: dict[str, Any] = {role: made.hash for role, made in self.inputs.items()}
        made_from["described"] = [made.manifest.describe() for made in self.teachers]
        return {"format": FORMAT, "settings": self.settings, "inputs": made_from}

    def _earlier(self) -> Artifact | None:
        """The newest targets set aside that differ from these in their text alone."""
        for path in artifact.retired(self.old_targets, self.name):
            try:
                found = artifact.read(path)
            except WorkError:
                continue
            theirs = found.manifest
            alike = all(theirs.inputs.get(role) == made.hash for role, made in self.inputs.items() if role != "tokens")
            if (
                alike
                and theirs.format_version == FORMAT
                and theirs.settings == json.loads(json.dumps(self.settings))
                and all(
                    theirs.ancestry.get(teacher.hash) == json.loads(json.dumps(teacher.manifest.describe()))
                    for teacher in self.teachers
                )
            ):
                return found
        return None

    def _take_over(self, earlier: Artifact, store: TargetStore) -> None:
        """The segments of the text that both have in common, where the earlier one's tokens are still there."""
        wanted = earlier.manifest.inputs["tokens"]
        taken = 0
        for path in artifact.retired(self.old_tokens, self.inputs["tokens"].path.name):
            tokens = artifact.read(path)
            if tokens.hash == wanted and tokens.manifest.format_version == artifact.FORMAT_VERSIONS["tokens"]:
                artifact.verify(tokens)
                artifact.verify(earlier)
                taken = self.parts.take_over(store, common_tokens(TokenShards(path), self.windows.shards))
                break
        left = len(self.windows.shards) - taken
        say(f"targets of {self.name}: {human(taken)} tokens reused from {earlier.path}, {human(left)} to be taught")
