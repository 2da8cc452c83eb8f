"""What is it worth to start from the teacher's own weights, cut down, rather than from random ones?

    python benchmarks/cut_from_teacher.py [--run runs/demo] [--tokens 150000] [--longer 4]

The demo's teacher (that of the run, trained if it is not there) and students of about half and a quarter of its
parameters, all distilled from it on the same tokens in the same order: one cut from the teacher, one that starts at
random, and for the quarter one cut from the trained half, which costs the half's tokens besides. What is cut is trained
at two learning rates, the width's default and a quarter of it. Prints one table: perplexity at equal tokens, then that
of a random start with --longer times the tokens, and how many of these it takes to the loss that the best cut one ends
with, by the validation windows that training looks at. Everything made is kept in --out and found again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import common
from rich.table import Table

from gemmule.recipe.defaults import default_learning_rate
from gemmule.run.runner import Family
from gemmule.train import metrics

# The demo's teacher: 4 layers, width 256, 4 heads over 2 of 64, ffn_width 768; 3.67M parameters.
CUTS = {"half": {"width": 192, "ffn_width": 384}, "quarter": {"width": 128, "ffn_width": 192}}  # 1.87M, 0.95M
RATES = {"": 1.0, "-low-rate": 0.25}  # times the width's default


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the demo's teacher is, or goes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/cut_from_teacher"))
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--longer", type=int, default=4)
    wishes = parser.parse_args()

    family, _, teacher = common.student_and_teacher(common.DEMO, wishes.run)
    shape = family.raw["models"]["teacher"]["architecture"]
    models: dict[str, Any] = {"teacher": {"from": str(teacher)}}
    for size, smaller in CUTS.items():
        student = {"architecture": shape | smaller, "learn_from": "teacher"}
        for note, factor in RATES.items():
            train = {
                "tokens": wishes.tokens,
                "learning_rate": default_learning_rate(smaller["width"], trained=True) * factor,
                "batch_tokens": 2048,
            }
            models[f"{size}-cut{note}"] = student | {"start_from": "teacher", "train": train}
            if size == "quarter":
                models[f"{size}-chained{note}"] = student | {"start_from": f"half-cut{note}", "train": train}
        train = {"tokens": wishes.tokens, "batch_tokens": 2048}
        models[f"{size}-random"] = student | {"train": train}
        models[f"{size}-random-longer"] = student | {"train": train | {"tokens": wishes.longer * wishes.tokens}}
    wanted = family.raw | {"name": wishes.out.name, "tokenizer": {"from": str(teacher)}, "models": models}
    show(common.run(Family(wanted, common.DEMO, wishes.out)), wishes.out, wishes.tokens, wishes.longer)


def show(figures: dict[str, dict[str, Any]], out: Path, tokens: int, longer: int) -> None:
    """A row for each student; the random starts last, the longer one with the tokens that it needs."""
    table = Table(title=f"validation perplexity; teacher {figures['teacher']['perplexity']:.2f}")
    for title in ("size", "start", "parameters", "tokens", "perplexity", "KL to teacher", "as good as the best cut at"):
        table.add_column(title, justify="left" if title in ("size", "start") else "right")
    for size in CUTS:
        names = [name for name in figures if name.startswith(size)]
        best = min((name for name in names if "random" not in name), key=lambda name: figures[name]["perplexity"])
        goal = curve(out, best)[-1][1]
        for name in sorted(names, key=lambda name: "random" in name):
            reached = ""
            if name.endswith("longer"):
                point = next((read for read, loss in curve(out, name) if loss <= goal), None)
                reached = f"{point:,} tokens" if point is not None else f"not in {longer * tokens:,}"
            row = figures[name]
            table.add_row(size, name.removeprefix(f"{size}-").replace("-", ", "), f"{row['parameters'] / 1e6:.2f}M",
                          f"{row['train_tokens']:,}", f"{row['perplexity']:.2f}", f"{row['kl_to_teacher']:.3f}",
                          reached)  # fmt: skip
    common.show(table)


def curve(out: Path, name: str) -> list[tuple[int, float]]:
    """The validation loss by tokens read."""
    records = metrics.read(out / "models" / name)
    return [(record["tokens"], record["validation_loss"]) for record in records if "validation_loss" in record]


if __name__ == "__main__":
    main()
