"""What is written while a model trains: `metrics.jsonl`, a line a record, TensorBoard's files beside it, a tracker.

A step's record holds step, tokens (trained on so far), loss (of the objective, nats per token: without a teacher the
next-token loss, with one the forward KL to it, or what `distill.loss` says), learning_rate, gradient_norm,
tokens_per_second and seconds (since the start, pauses not counted); a validation record holds step, tokens and
validation_loss (always the next-token loss, nats per token). TensorBoard and trackers name losses by what they are, as
in "loss/forward_kl" and "validation_loss/next_token_loss", so that no picture compares a KL with another loss.

Where the loss or a gradient was not finite, `left_out` says how in their place, and `documents` what was in the batch;
`passed_over` is why a step's data was not trained on after that; `spike_in_documents` are the documents of a batch
whose loss jumped. `damaged_windows` is how many of a batch were left out because they are damaged (`data.damaged`).
"""

from __future__ import annotations

import json
import math
import mmap
import re
import threading
from pathlib import Path
from typing import Any

from gemmule.base.artifact import to_json, writing
from gemmule.recipe import Distill
from gemmule.recipe.schema import LOSSES
from gemmule.train.tracking import Tracker

METRICS = "metrics.jsonl"
NEXT_TOKEN = "next-token loss"


def objective(distill: Distill, taught: bool) -> str:
    """What a model's training loss is called, as in "forward KL + next-token loss"."""
    if not taught:
        return NEXT_TOKEN
    own = LOSSES[distill.loss]
    return f"{own} + {NEXT_TOKEN}" if distill.next_token_weight else own


def _slug(name: str) -> str:
    return re.sub(r"[^a-z]+", "_", name.lower())


class MetricsLog:
    """Appends records; when training resumes from `step`, records after it are dropped first."""

    def __init__(self, folder: Path, step: int, tracker: Tracker | None = None, objective: str | None = None) -> None:
        """`objective` is what the loss is called where it is shown; None: nothing."""
        from torch.utils.tensorboard import SummaryWriter  # takes seconds, and reading needs none of it

        self.path = folder / METRICS
        self.tracker = tracker
        self.names = {} if objective is None else {
            "loss": f"loss/{_slug(objective)}", "validation_loss": f"validation_loss/{_slug(NEXT_TOKEN)}"
        }  # fmt: skip
        with writing(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            _drop_after(step, self.path)
            self.file = self.path.open("a", encoding="utf-8")
        threading.excepthook = _silent_where_told_again
        with writing(folder / "tensorboard"):
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, record: dict[str, Any]) -> None:
        """Raises WorkError naming what can't be written."""
        with writing(self.path):
            self.file.write(to_json(record) + "\n")
            self.file.flush()
        shown = {self.names.get(key, key): value for key, value in record.items()}
        with writing(self.path.with_name("tensorboard")):
            for key, value in shown.items():
                if isinstance(value, float) and key != "seconds":
                    self.board.add_scalar(key, value, record["step"])
        if self.tracker is not None:
            self.tracker.log(shown)

    def close(self) -> None:
        try:
            with writing(self.path):
                self.file.close()
            with writing(self.path.with_name("tensorboard")):
                self.board.close()
        finally:
            if self.tracker is not None:
                self.tracker.close()


def _silent_where_told_again(failed: threading.ExceptHookArgs) -> None:
    """What TensorBoard's thread can't write, it raises again where the next record is written."""
    if not issubclass(failed.exc_type, OSError) or "tensorboard" not in type(failed.thread).__module__:
        threading.__excepthook__(failed)


def _drop_after(step: int, path: Path) -> None:
    """Cuts off the records after `step`, and what a crash left of one.

    Reads from the end, so that it takes no longer the longer a run is.
    """
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as lines:
            end = lines.rfind(b"\n") + 1
            while end:
                start = lines.rfind(b"\n", 0, end - 1) + 1
                if _step_of(lines[start:end]) <= step:
                    break
                end = start
        file.truncate(end)


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def read(folder: Path) -> list[dict[str, Any]]:
    """The records of a model's folder; a last line that was cut off by a crash is left out."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
