"""What stored targets cost a student: live teacher, stored targets, shuffled targets, no teacher.

    python benchmarks/cached_targets.py [--recipe recipes/demo.toml] [--run runs/demo] [--seed 0] [--text ...]
        [--distill '{ targets = { bytes_per_token = 30 } }' '{ targets = { kind = "rs-kd", draws = 50 } }' ...]

All students are the recipe's, with the same initial weights and tokens in the same order. "Shuffled" are the
stored targets moved along the stream by half its length: the same distributions, at the wrong places; if distillation
is what helps, such a student must lose to the one without a teacher. They are those of the first way to distil that
is given. Prints one table.
"""

from __future__ import annotations

import argparse
import copy
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import common
import numpy as np
from rich.table import Table

from gemmule.base import artifact
from gemmule.run.runner import Family
from gemmule.teach.targets.store import INDEX, TargetStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=common.DEMO)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="where the recipe's teacher is, or goes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/work/cached_targets"))
    parser.add_argument("--text", nargs="+", help="less text than the recipe's, so that teaching takes less time")
    parser.add_argument("--seed", type=int, help="the recipe's, if left out")
    parser.add_argument("--distill", nargs="+", default=["{ targets = { bytes_per_token = 30 } }"], help="in TOML")
    wishes = parser.parse_args()

    family, student, teacher = common.student_and_teacher(wishes.recipe, wishes.run)
    if wishes.text:
        family.raw["data"]["sources"] = [str(Path(text).resolve()) for text in wishes.text]
    if wishes.seed is not None:
        family.raw["seed"] = wishes.seed

    rows: list[tuple[str, float | None, dict[str, Any]]] = []
    plain = {"live": {"learn_from": "teacher"}, "no teacher": {"learn_from": "none"}}
    summary = run(family.raw, wishes.recipe, student, teacher, plain, wishes.out / "plain")
    rows += [(name, None, summary[name]) for name in plain]
    ways = [tomllib.loads(f"distill = {text}")["distill"] for text in wishes.distill]
    for text, way in zip(wishes.distill, ways, strict=True):
        stored = {"stored": {"learn_from": "teacher", "distill": way}}
        out = wishes.out / slug(text)
        figures = run(family.raw, wishes.recipe, student, teacher, stored, out)["stored"]
        spent = TargetStore(out / "targets" / "teacher").bytes_per_token
        rows.append((text.strip("{ }"), spent, figures))
    shuffled_out = wishes.out / f"shuffled-{slug(wishes.distill[0])}"
    shuffle(wishes.out / slug(wishes.distill[0]), shuffled_out)
    stored = {"stored": {"learn_from": "teacher", "distill": ways[0]}}
    figures = run(family.raw, wishes.recipe, student, teacher, stored, shuffled_out)["stored"]
    rows.append(("the first, shuffled", TargetStore(shuffled_out / "targets" / "teacher").bytes_per_token, figures))

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
    common.show(table)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


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
    models = common.run(Family(own, origin, out))
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
    index = np.fromfile(made / "index.bin", INDEX)
    ends = index["end"].tolist()
    data = (made / "blocks.bin").read_bytes()
    blocks = [(data[start:end], crc) for start, end, crc in zip([0, *ends], ends, index["crc"], strict=False)]
    whole = len(blocks) - 1  # the last one may be short: it stays
    moved = [*blocks[whole // 2 : whole], *blocks[: whole // 2], *blocks[whole:]]
    index["end"] = np.cumsum([len(block) for block, _ in moved])
    index["crc"] = [crc for _, crc in moved]
    with artifact.publish(out / "targets" / "teacher", "targets", settings=made.settings, inputs=inputs) as folder:
        (folder / "blocks.bin").write_bytes(b"".join(block for block, _ in moved))
        index.tofile(folder / "index.bin")
        for name in ("order.bin", "info.json"):
            shutil.copy(made / name, folder / name)


if __name__ == "__main__":
    main()
