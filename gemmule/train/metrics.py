"""What is written while a model trains: `metrics.jsonl`, a line a record, TensorBoard's files beside it, a tracker.

A step's record holds step, tokens, loss (the objective, nats per token), learning_rate, gradient_norm,
tokens_per_second and seconds (since the start, pauses not counted); a validation record holds step, tokens and
validation_loss (next-token, nats per token). Where the loss or a gradient was not finite, `left_out` says how in their
place, and `documents` what was in the batch; `passed_over` is why a step's data was not learned from after that;
`spike_in_documents` are the documents of a batch whose loss jumped. `damaged_windows` is
how many of a batch were not learned from because they are damaged (`data.damaged`).
"""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any

from gemmule.train.tracking import Tracker

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends records; when training goes on from `step`, records after it are dropped first."""

    def __init__(self, folder: Path, step: int, tracker: Tracker | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds, and reading needs none of it

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS
        self.tracker = tracker
        _drop_after(step, self.path)
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        for key, value in record.items():
            if isinstance(value, float) and key != "seconds":
                self.board.add_scalar(key, value, record["step"])
        if self.tracker is not None:
            self.tracker.log(record)

    def close(self) -> None:
        self.file.close()
        self.board.close()
        if self.tracker is not None:
            self.tracker.close()


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
