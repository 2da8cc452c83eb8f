"""What an earlier version made is still found made: a run of it in `made_before/`, and what it said that steps are.

Both are of commit 23e1334 and are never made anew; what was its default then and is another now is spelled out, as its
user must who wants to keep such a run. `run.tar.xz` is the folder of `family.toml` without checkpoints and
report; `identities.json` holds five recipes that use most keys, and each step's kind, settings and inputs in order.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from gemmule.plan.plan import Plan
from gemmule.run.runner import Family

MADE_BEFORE = Path(__file__).parent / "made_before"
IDENTITIES = json.loads((MADE_BEFORE / "identities.json").read_text())


# Of `train`. And the learning rate, which followed from the width
DEFAULTS_THEN = {
    "optimizer": "adamw",
    "embedding_learning_rate_factor": 1.0,
    "betas": [0.9, 0.95],
    "schedule": "cosine",
    "warmup_fraction": 0.05,
    "batch_tokens": 4096,
}


def with_defaults_then(raw: dict[str, Any]) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    for model in raw["models"].values():
        if "train" in model:
            inner = model.get("start_from") in raw["models"] and "from" not in raw["models"][model["start_from"]]
            rate = 1e-2 if inner or "width" in model.get("architecture", {}) else 2e-4
            model["train"] = DEFAULTS_THEN | {"learning_rate": rate} | model["train"]
    return raw


@pytest.fixture
def made_before(tmp_path) -> Path:
    folder = tmp_path / "elsewhere"
    shutil.copytree(MADE_BEFORE, folder)
    with tarfile.open(folder / "run.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    raw = with_defaults_then(tomllib.loads((folder / "family.toml").read_text()))
    (folder / "family.toml").write_text(tomli_w.dumps(raw))
    (folder / "run" / "report.html").touch()
    return folder


def test_a_run_of_an_earlier_version_has_nothing_left_to_do(made_before):
    out = made_before / "run"
    family = Family.from_file(made_before / "family.toml", out=out)
    assert len(family.plan.steps) == 15
    assert family.compare(family.plan.steps) == ([], {})
    before = contents(out)
    command = [sys.executable, "-m", "gemmule", "run", str(made_before / "family.toml"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        0, f"nothing to do: everything in {out} is made. Open {out / 'report.html'}\n"
    )  # fmt: skip
    after = contents(out)
    assert {name for name in after if after[name] != before.get(name)} == {"recipe.toml", "status.json"}


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("key", "steps"),
    [
        ("data.bad_records='skip'", 15),
        ("models.student.train.clip=2.0", 4),  # and of the control, which is like it
        ("models.outsider.worse_than_unigram='allow'", 0),
        ("models.teacher.train.keep_last=7", 0),
    ],
)
def test_what_a_changed_key_makes_anew(made_before, key, steps):
    family = Family.from_file(made_before / "family.toml", [key], made_before / "run")
    missing, stale = family.compare(family.plan.steps)
    assert (missing, len(stale)) == ([], steps)


@pytest.mark.parametrize("name", IDENTITIES)
def test_steps_are_what_they_were(name):
    """To the byte: their settings are also in the models' cards, and so in the hashes of their artifacts."""
    plan = Plan(with_defaults_then(IDENTITIES[name]["recipe"]), MADE_BEFORE / "recipe.toml", Path("nowhere"))
    at = {step: step.path.relative_to(plan.out).as_posix() for step in plan.steps}
    steps = {
        at[step]: {
            "kind": step.kind,
            "settings": step.settings,
            "inputs": {role: at[source] for role, source in step.inputs.items()},
        }
        for step in plan.steps
    }
    assert json.dumps(steps) == json.dumps(IDENTITIES[name]["steps"])
