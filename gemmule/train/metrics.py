"""What is written while a model trains: `metrics.jsonl`, a line a record, and TensorBoard's files beside it.

A step's record holds step, tokens, loss (the objective, nats per token), learning_rate, gradient_norm,
tokens_per_second and seconds (since the start, pauses not counted); a validation record holds step, tokens and
validation_loss (next-token, nats per token). Where the loss or a gradient was not finite, `left_out` says how in their
place, and `documents` what was in the batch; `passed_over` is why a step's data was not learned from after that;
`spike_in_documents` are the documents of a batch whose loss jumped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends records; when training goes on from `step`, records after it are dropped first."""

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS
        kept = [record for record in read(folder) if record["step"] <= step]
        temporary = self.path.with_name(f".{METRICS}.tmp")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        temporary.replace(self.path)
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        for key, value in record.items():
            if isinstance(value, float) and key != "seconds":
                self.board.add_scalar(key, value, record["step"])

    def close(self) -> None:
        self.file.close()
        self.board.close()


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
