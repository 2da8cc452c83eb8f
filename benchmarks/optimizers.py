"""AdamW or Muon: the demo's student from scratch and distilled, each at three learning rates; or its whole family.

    python benchmarks/optimizers.py [--run runs/demo] [--tokens 200000]
    python benchmarks/optimizers.py --family [TEXT... --field answer] [--teacher 1M --student 400k] [--seeds 3]

The teacher is that of the run, trained if it is not there; all students start alike and read the same tokens in the
same order. Prints one table: validation perplexity and seconds. With --family teacher, student and control are all
trained by one optimizer, at its default rates, over several seeds: mean and standard deviation, and how Muon's figures
stand to AdamW's of the same seed, with a 95% interval. For equal time AdamW reads more tokens than Muon, by what Muon's
updates take of a step (optimizer_step.py). Everything made is kept in --out and found again.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from pathlib import Path
from typing import Any

import common
from rich.table import Table

from gemmule import recipe as recipes
from gemmule.recipe.schema import batch_for
from gemmule.run.runner import Family

FACTORS = (0.5, 1.0, 2.0)  # times the recipe's own learning rate
# Milliseconds of 2,048 tokens forward and backward, and of an update by AdamW and by Muon (optimizer_step.py)
TEACHER, STUDENT = (464, 2.9, 70.9), (155, 1.1, 9.6)
MILLISECONDS = {"teacher": TEACHER, "student": STUDENT, "control": STUDENT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the demo's teacher is, or goes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/optimizers"))
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--family", action="store_true", help="teacher, student and control by one optimizer")
    parser.add_argument("--seeds", type=int, default=3, help="of the family")
    parser.add_argument("text", nargs="*", help="files or folders for the family; without any, the demo's text")
    parser.add_argument("--field", default="text")
    parser.add_argument("--teacher", type=int, default=1_000_000, help="tokens that the family's teacher reads")
    parser.add_argument("--student", type=int, default=400_000, help="tokens that the others read")
    wishes = parser.parse_args()
    if wishes.family:
        compare_families(wishes)
    else:
        compare_rates(wishes)


def compare_rates(wishes: argparse.Namespace) -> None:
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


def compare_families(wishes: argparse.Namespace) -> None:
    demo = recipes.read(common.DEMO)
    if wishes.text:
        demo["data"] |= {"sources": [str(Path(text).resolve()) for text in wishes.text], "field": wishes.field}
    demo["models"]["control"]["train"] = copy.deepcopy(demo["models"]["student"]["train"])
    budgets = {"teacher": wishes.teacher, "student": wishes.student, "control": wishes.student}
    results: dict[str, list[dict[str, Any]]] = {"adamw": [], "muon": []}
    for seed in range(wishes.seeds):
        for optimizer, figures in results.items():
            wanted = copy.deepcopy(demo) | {"seed": seed}
            for name, tokens in budgets.items():
                batch = batch_for(tokens)
                more = adamws_tokens(name, batch) if optimizer == "adamw" else 1.0
                train = {"optimizer": optimizer, "tokens": round(tokens * more), "batch_tokens": batch}
                wanted["models"][name]["train"] |= train
            figures.append(common.run(Family(wanted, common.DEMO, wishes.out / f"{optimizer}-{seed}")))

    table = Table("model", "AdamW", "seconds", "Muon", "seconds", "of AdamW's perplexity")
    for name in budgets:
        adamw, muon = ([figures[name]["perplexity"] for figures in results[side]] for side in results)
        seconds = [statistics.median(figures[name]["seconds"] for figures in results[side]) for side in results]
        ratio = common.interval([ours / theirs for ours, theirs in zip(muon, adamw, strict=True)])
        table.add_row(name, spread(adamw), f"{seconds[0]:.0f}", spread(muon), f"{seconds[1]:.0f}", ratio)
    for side, figures in results.items():
        ratios = [each["student"]["perplexity"] / each["control"]["perplexity"] for each in figures]
        print(f"{side}: student against control {common.interval(ratios)}")
    common.show(table)


def adamws_tokens(name: str, batch: int) -> float:
    """How many AdamW reads in the time of one of Muon's."""
    passes, adamw, muon = MILLISECONDS[name]
    return (passes * batch / 2048 + muon) / (passes * batch / 2048 + adamw)


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    main()
