"""What stored targets cost a student: live teacher, stored targets, shuffled targets, no teacher.

    python benchmarks/cached_targets.py [--recipe recipes/demo.toml] [--run runs/demo] [--bytes 15 30]

All four students are the recipe's, with the same initial weights and tokens in the same order. "Shuffled" are the
stored targets moved along the stream by half its length: the same distributions, at the wrong places; if distillation
is what helps, such a student must lose to the one without a teacher. Prints one table.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gemmule import artifact
from gemmule import recipe as recipes
from gemmule.distill.targets import BLOCK, TargetStore
from gemmule.family import Family


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/demo.toml"))
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the recipe's teacher is, or goes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/cached_targets"))
    parser.add_argument("--bytes", type=float, nargs="+", default=[30.0], help="budgets, bytes per token")
    wishes = parser.parse_args()

    raw = recipes.read(wishes.recipe)
    recipe = recipes.parse(raw)
    student = next(name for name, model in recipe.models.items() if model.learn_from != "none")
    teacher = recipe.models[student].learn_from
    Family.from_file(wishes.recipe, out=wishes.run).run("train", [teacher])
    final = (wishes.run / "models" / teacher / "final").resolve()

    rows: list[tuple[str, float | None, dict[str, Any]]] = []
    plain = {"live": {"learn_from": "teacher"}, "no teacher": {"learn_from": "none"}}
    summary = run(raw, wishes.recipe, student, final, plain, wishes.out / "plain")
    rows += [(name, None, summary[name]) for name in plain]
    for budget in wishes.bytes:
        stored = {"stored": {"learn_from": "teacher", "distill": {"targets": {"bytes_per_token": budget}}}}
        out = wishes.out / f"stored-{budget:g}"
        figures = run(raw, wishes.recipe, student, final, stored, out)["stored"]
        spent = TargetStore(out / "targets" / "teacher").bytes_per_token
        rows.append(("stored", spent, figures))
    shuffled_out = wishes.out / f"shuffled-{wishes.bytes[0]:g}"
    shuffle(wishes.out / f"stored-{wishes.bytes[0]:g}", shuffled_out)
    stored["stored"]["distill"]["targets"]["bytes_per_token"] = wishes.bytes[0]
    figures = run(raw, wishes.recipe, student, final, stored, shuffled_out)["stored"]
    rows.append(("shuffled", TargetStore(shuffled_out / "targets" / "teacher").bytes_per_token, figures))

    table = Table("targets", "bytes per token", "perplexity", "against live", "ECE", "training seconds")
    for name, spent, figures in rows:
        table.add_row(
            name,
            f"{spent:.1f}" if spent else "",
            f"{figures['perplexity']:.2f}",
            f"{figures['perplexity'] / summary['live']['perplexity'] - 1:+.2%}",
            f"{figures['ece']:.4f}",
            f"{figures['seconds']:.0f}",
        )
    Console(width=120).print(table)


def run(
    raw: dict[str, Any], origin: Path, student: str, teacher: Path, changes: dict[str, dict[str, Any]], out: Path
) -> dict[str, Any]:
    """Runs the student, changed in each of these ways; gives the summary's models."""
    own = copy.deepcopy(raw)
    own |= {"name": out.name, "tokenizer": {"from": str(teacher)}}
    base = {key: value for key, value in own["models"][student].items() if key not in ("learn_from", "distill")}
    names = {name: name.replace(" ", "-") for name in changes}
    own["models"] = {"teacher": {"from": str(teacher)}}
    own["models"] |= {names[name]: {**copy.deepcopy(base), **change} for name, change in changes.items()}
    Family(own, origin, out).run()
    models = json.loads((out / "summary.json").read_text())["models"]
    return {name: models[names[name]] for name in changes}


def shuffle(source: Path, out: Path) -> None:
    """A copy of a run with its stored targets moved along the stream by half its length, and nothing trained yet."""
    if (out / "targets").exists():
        return
    made = artifact.read(source / "targets" / "teacher")
    out.mkdir(parents=True, exist_ok=True)
    for name in ("documents", "tokenizer", "tokens"):
        shutil.copytree(source / name, out / name, dirs_exist_ok=True)
    shutil.copytree(source / "models" / "teacher", out / "models" / "teacher", dirs_exist_ok=True)
    inputs = {
        "tokens": artifact.read(out / "tokens" / "train"),
        "tokenizer": artifact.read(out / "tokenizer"),
        "teacher": artifact.read(out / "models" / "teacher" / "source"),
    }
    dtypes = json.loads((made / "info.json").read_text())["dtypes"]
    arrays = {name: np.fromfile(made / f"{name}.bin", dtype) for name, dtype in dtypes.items()}
    counts = arrays["counts"].reshape(-1, 2).astype(np.int64)
    half = len(counts) // 2
    before = [counts[:half].sum(), counts[:half, 0].sum()]
    moved = {
        "counts": np.roll(counts, -half, axis=0),
        "entropy": np.roll(arrays["entropy"], -half),
        "ids": np.roll(arrays["ids"], -before[0]),
        "values": np.roll(arrays["values"], -before[1]),
    }
    ends = np.cumsum(np.stack([moved["counts"].sum(1), moved["counts"][:, 0]], 1), 0)
    moved["index"] = np.concatenate([[[0, 0]], ends[BLOCK - 1 :: BLOCK], ends[-1:] if len(ends) % BLOCK else ends[:0]])
    with artifact.publish(out / "targets" / "teacher", "targets", settings=made.settings, inputs=inputs) as folder:
        for name, array in moved.items():
            array.astype(dtypes[name]).tofile(folder / f"{name}.bin")
        shutil.copy(made / "info.json", folder / "info.json")


if __name__ == "__main__":
    main()
