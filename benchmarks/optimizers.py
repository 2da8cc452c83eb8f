"""AdamW or Muon: the demo's student from scratch and distilled, each at three learning rates.

    python benchmarks/optimizers.py [--run runs/demo] [--tokens 200000]

The teacher is that of the run, trained if it is not there; all students start alike and read the same tokens in the
same order. Prints one table: validation perplexity and seconds. Everything made is kept in --out and found again.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import common
from rich.table import Table

from gemmule.run.runner import Family

FACTORS = (0.5, 1.0, 2.0)  # times the recipe's own learning rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the demo's teacher is, or goes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/optimizers"))
    parser.add_argument("--tokens", type=int, default=200_000)
    wishes = parser.parse_args()

    family, student, teacher = common.student_and_teacher(common.DEMO, wishes.run)
    train = family.plan.recipe.models[student].train
    assert train is not None
    rates = [float(f"{train.learning_rate * factor:.3g}") for factor in FACTORS]
    base = {key: value for key, value in family.raw["models"][student].items() if key != "learn_from"}
    models: dict[str, Any] = {"teacher": {"from": str(teacher)}}
    for taught in ("none", "teacher"):
        for optimizer in ("adamw", "muon"):
            for rate in rates:
                model = copy.deepcopy(base) | {"learn_from": taught}
                model["train"] |= {"learning_rate": rate, "optimizer": optimizer, "tokens": wishes.tokens}
                models[f"{optimizer}-{taught}-{rate:g}"] = model
    wanted = family.raw | {"name": wishes.out.name, "tokenizer": {"from": str(teacher)}, "models": models}
    figures = common.run(Family(wanted, common.DEMO, wishes.out))

    table = Table("learns from", "optimizer", *(f"{rate:g}" for rate in rates), "seconds")
    for taught in ("none", "teacher"):
        for optimizer in ("adamw", "muon"):
            rows = [figures[f"{optimizer}-{taught}-{rate:g}"] for rate in rates]
            seconds = min(row["seconds"] for row in rows)
            table.add_row(taught, optimizer, *(f"{row['perplexity']:.2f}" for row in rows), f"{seconds:.0f}")
    common.show(table)


if __name__ == "__main__":
    main()
