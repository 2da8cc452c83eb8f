"""When training saves a checkpoint, and which folders are checkpoints. Nothing here imports torch.

- By steps: every `train.checkpoint_every`-th. These alone are gone back to after trouble, so that whether and when
  training was interrupted changes no weight.
- By time: so that a kill costs at most `train.checkpoint_minutes`, however long a step takes.
- Never for more than 3% of training's time, unless the recipe names the steps.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from gemmule.base.progress import running_seconds, say
from gemmule.base.units import clock
from gemmule.recipe import Train
from gemmule.train.schedule import decay_begins, warmup_steps

EVERY = 200  # steps between two checkpoints, where the recipe names none and they cost no more than this:
SHARE = 0.03  # of training's time, for all checkpoints
NAME = re.compile(r"step-([0-9]{8}|[1-9][0-9]{8,})")
REMAINS = re.compile(rf"\.{NAME.pattern}\.(tmp|old)")  # of a process that was killed while it wrote or dropped one


def found(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first. Whatever else lies there is somebody else's."""
    return sorted((path for path in _folders(folder) if NAME.fullmatch(path.name)), key=step_of)


def remains(folder: Path) -> list[Path]:
    """What was left of checkpoints by a process that was killed."""
    return [path for path in _folders(folder) if REMAINS.fullmatch(path.name)]


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()] if folder.is_dir() else []


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def drop(path: Path) -> None:
    going = path.with_name(f".{path.name}.old")  # at once, so that no half of one is ever found
    path.rename(going)
    shutil.rmtree(going)


def drop_after(folder: Path, step: int) -> None:
    """Drops the checkpoints after `step`, the last ones first."""
    for path in reversed(found(folder)):
        if step_of(path) > step:
            drop(path)


def is_by_steps(step: int, train: Train) -> bool:
    """Whether the checkpoint of this step is one that training may go back to."""
    return step % (train.checkpoint_every or EVERY) == 0


def is_asked_for(step: int, steps: int, train: Train) -> bool:
    """Whether the recipe names this step of `steps`, as the last one always is: it is saved whatever that costs."""
    named = (train.checkpoint_every, train.keep_every)
    return step in (steps, stem(steps, train)) or any(every is not None and step % every == 0 for every in named)


def stem(steps: int, train: Train) -> int | None:
    """The step whose checkpoint is kept for good, for a longer training to go on from: the last at a full rate."""
    begins = decay_begins(steps, train)
    return begins if begins > warmup_steps(steps, train) else None


class Pace:
    """What checkpoints cost one model's training so far, and whether it is time for another."""

    def __init__(self, name: str, train: Train) -> None:
        self.name, self.train = name, train
        self.began = self.since = self.by_steps = running_seconds()  # a kill would lose the work since `since`
        self.cost = 0.0  # seconds of training's time that the last checkpoint took
        self.spent = 0.0  # and all together
        self.writing = 0.0  # seconds until the last was written: a thread did that, while training went on
        self._said = False

    def saved(self, began: float) -> None:
        """Training waited since `began` for a checkpoint of the moment, which a thread may still be writing."""
        self.since = running_seconds()
        self.cost = self.since - began
        self.spent += self.cost

    def written(self, seconds: float, processor_seconds: float) -> None:
        """It is written. On a busy machine the thread took its part of all processors from training."""
        share = processor_seconds / (os.cpu_count() or 1)
        self.writing, self.cost, self.spent = seconds, self.cost + share, self.spent + share

    def is_due(self, step: int, step_seconds: float, idle: bool = True) -> bool:
        """Whether to save after `step`: by steps, or as another and writing would take longer than may be lost.

        By steps, if one each time is within 3%, whatever else is saved: those decide what trouble goes back to. By time
        for what is left of the 3%, and not while one is still being written (not `idle`).
        """
        now, limit = running_seconds(), 60 * self.train.checkpoint_minutes
        if is_by_steps(step, self.train):
            between, self.by_steps = now - self.by_steps, now
            if SHARE * between >= self.cost:
                return True
        if not idle or now - self.since + step_seconds + self.writing < limit:
            return False
        affordable = self.spent + self.cost <= SHARE * (now - self.began)
        if not affordable and not self._said:
            self._said = True
            say(
                f"{self.name}: a checkpoint takes {self.cost:.2g} s of training's time: saving one every "
                f"{clock(self.cost / SHARE)} or so keeps that below {SHARE:.0%} of it"
            )
        return affordable
