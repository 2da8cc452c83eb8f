"""Kills a run at random moments until it is finished, and damages checkpoints at random: `make torture`.

    python tests/torture.py [--kills 30] [--corruptions 200] [--seed 0]

A small recipe (a teacher, and students from it live and from stored targets) is run three times: undisturbed,
undisturbed with another seed, and killed with -9 by this process, started again by the same command each time, and at
last left alone. When to kill is no matter of the clock, for nobody knows how fast a machine is: this process waits for
the run to train a random number of steps more, or to begin a checkpoint, and then a random moment of up to a step.
Prints a table: how many kills fell where, what differs between the first and the last run (weights, moments, state,
metrics but for times; nothing may), and whether the other seed changed the weights.
Then a checkpoint is damaged so many times in other ways (bits flipped, files cut short, files removed), and each time
it is asked which checkpoint training would take up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import gemmule

RECIPE = """
name = "torture"
[data]
sources = ["{sonnets}"]
sequence_length = 32
[tokenizer]
vocabulary_size = 300
[models.teacher]
architecture = {{ layers = 2, width = 48 }}
train = {{ tokens = {tokens}, batch_tokens = 512, checkpoint_every = 2 }}
[models.live]
architecture = {{ layers = 2, width = 32 }}
learn_from = "teacher"
train = {{ tokens = {tokens}, batch_tokens = 512, checkpoint_every = 2 }}
[models.stored]
like = "live"
distill = {{ targets = {{ bytes_per_token = 30 }} }}
[machine]
device = "cpu"
compile = false
"""
SONNETS = Path(gemmule.__file__).parent / "refine" / "shakespeare" / "sonnets.txt.zst"
MOMENT = 0.02  # seconds: a step or so, by which a kill comes after what it waited for
TRIES = 5  # runs for each kill: one may end before what is waited for is seen
PATIENCE = 100.0  # seconds without what is waited for, after which something hangs
TIMES = ("seconds", "tokens_per_second")  # of metrics: they may differ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--corruptions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills and of the damage")
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = write_recipe(Path(folder), tokens=120_000)
        fell, different = kill_and_compare(recipe, wishes.kills, wishes.seed)
        other = Path(folder) / "other"
        run(recipe, other, "--set", "seed=1")
        changed = not same_files(Path(folder) / "whole", other, "models/teacher/final/model.safetensors")
        accepted = corrupt(Path(folder) / "whole" / "models" / "live", wishes.corruptions, wishes.seed)

    table = Table("what", "result", title=f"{fell.total()} kills, {wishes.corruptions} corruptions")
    table.add_row("kills in a checkpoint write", str(fell["checkpoint"]))
    table.add_row("kills elsewhere in training", str(fell["training"]))
    table.add_row("kills outside of training", str(fell["elsewhere"]))
    table.add_row("what differs from an undisturbed run", ", ".join(different) or "nothing")
    table.add_row("another seed changes the weights", str(changed))
    table.add_row("damaged checkpoints accepted", str(accepted))
    Console().print(table)
    sys.exit(bool(different or accepted or not changed or not fell["checkpoint"]))


def write_recipe(folder: Path, tokens: int) -> Path:
    recipe = folder / "torture.toml"
    recipe.write_text(RECIPE.format(tokens=tokens, sonnets=SONNETS))
    return recipe


def command(recipe: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "gemmule", "train", str(recipe), "--out", str(out), *more]


def run(recipe: Path, out: Path, *more: str) -> None:
    subprocess.run(command(recipe, out, *more), check=True, capture_output=True)


def kill_and_compare(recipe: Path, kills: int, seed: int, *more: str) -> tuple[Counter[str], list[str]]:
    """Where the kills fell, and in what the killed runs differ from `whole`, all made beside the recipe.

    Every other kill is to fall into the writing of a checkpoint. Raises AssertionError where a run hangs, or where the
    runs end before they can be killed so often.
    """
    whole = recipe.parent / "whole"
    run(recipe, whole, *more)
    steps = recorded(whole)
    generator = random.Random(seed)
    fell: Counter[str] = Counter()
    different: list[str] = []
    for number in range(kills * TRIES):
        out = recipe.parent / f"killed-{number}"
        left = kills - fell.total()  # spread over the run
        while fell.total() < kills:
            further = generator.randint(1, max(1, 2 * steps // (left + 1)))
            in_checkpoint = fell.total() % 2 == 1
            if not kill(recipe, out, further, in_checkpoint, generator.uniform(0, MOMENT), *more):
                break
            fell[where(out)] += 1
        else:
            run(recipe, out, *more)
        different += differences(whole, out)
        if fell.total() == kills:
            return fell, different
    raise AssertionError(f"{kills * TRIES} runs ended before they could be killed: {fell}")


def kill(recipe: Path, out: Path, further: int, in_checkpoint: bool, moment: float, *more: str) -> bool:
    """Starts the command, and kills it once it has trained `further` steps; False if it is finished before."""
    before = recorded(out)
    process = subprocess.Popen(command(recipe, out, *more), stderr=subprocess.PIPE, start_new_session=True, text=True)
    deadline = time.monotonic() + PATIENCE
    while recorded(out) < before + further or (in_checkpoint and where(out) != "checkpoint"):
        if process.poll() is not None:
            said = process.communicate()[1]
            assert process.returncode == 0, said
            return False
        assert time.monotonic() < deadline, f"{out}: trains no {further} steps in {PATIENCE:.0f} s"
        time.sleep(0.001)
    if not in_checkpoint:
        time.sleep(moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def recorded(out: Path) -> int:
    """How many records all the models of a run have written: a step's, or a validation's."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("models/*/metrics.jsonl"))


def where(out: Path) -> str:
    """In what a killed run was: a half-written checkpoint lies there under a temporary name."""
    if list(out.glob("models/*/checkpoints/.step-*.tmp")):
        return "checkpoint"
    begun = [path for path in out.glob("models/*/checkpoints") if not (path.parent / "final").exists()]
    return "training" if begun else "elsewhere"


def differences(one: Path, other: Path) -> list[str]:
    """The files that differ between two runs of a recipe, but for times."""
    found = []
    for model in sorted(path.name for path in (one / "models").iterdir()):
        folder = Path("models") / model
        last = sorted((one / folder / "checkpoints").glob("step-*"))[-1].relative_to(one)
        files = [folder / "final" / "model.safetensors", last / "model.safetensors", last / "optimizer.safetensors"]
        found += [str(file) for file in files if not same_files(one, other, file)]
        if untimed(json.loads((one / last / "state.json").read_text())) != untimed(
            json.loads((other / last / "state.json").read_text())
        ):
            found.append(str(last / "state.json"))
        if metrics(one / folder) != metrics(other / folder):
            found.append(str(folder / "metrics.jsonl"))
    return found


def same_files(one: Path, other: Path, name: Path | str) -> bool:
    return (one / name).read_bytes() == (other / name).read_bytes()


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [untimed(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in TIMES}


def corrupt(model: Path, times: int, seed: int) -> int:
    """How many of so many ways to damage a model's newest checkpoint go unseen when training takes it up."""
    from gemmule.base.progress import console
    from gemmule.recipe import Train
    from gemmule.train.checkpoint import Checkpoints

    console.quiet = True  # each is said
    generator, accepted = random.Random(seed), 0
    (whole,) = sorted((model / "checkpoints").glob("step-*"))[-1:]
    for number in range(times):
        folder = model.parent.parent / "corruptions" / str(number)
        shutil.copytree(whole, folder / whole.name)
        file = generator.choice(sorted(path for path in (folder / whole.name).rglob("*") if path.is_file()))
        content = bytearray(file.read_bytes())
        match generator.choice(("flip", "cut", "remove")):
            case "flip":
                content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
                file.write_bytes(content)
            case "cut":
                file.write_bytes(content[: generator.randrange(len(content))])
            case "remove":
                file.unlink()
        accepted += Checkpoints(folder, Train(tokens=1, learning_rate=1.0), {}, {}, "m").newest() is not None
        shutil.rmtree(folder)
    console.quiet = False
    return accepted


if __name__ == "__main__":
    main()
