"""benchmarks/gpu.py in small on a CPU: what a GPU's quarter of an hour is to be spent on runs, and is right here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gemmule.model.config import Gemma2Config

ROOT = Path(__file__).parents[2]
# all but the demo, which takes longer
SECTIONS = ("machine", "parity", "step", "teach", "head", "bugs", "fsdp", "backbone", "generate")


def test_every_section_has_figures_and_none_fails(tmp_path):
    environment = os.environ | {"OUT": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--cpu", "--only", ",".join(SECTIONS)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert tuple(found) == SECTIONS
    for section, lines in found.items():
        assert lines
        for title, values in lines.items():
            assert title in done.stdout
            assert title != "the section itself", values
            assert "left_out" not in values
            # a line of "bugs" may be one: it says what the code does
            assert section == "bugs" or "failed" not in values, f"{section}, {title}: {values}"
            assert any(value is not None for value in values.values())

    for title, values in found["parity"].items():
        assert max(values.values()) < (0.05 if "bf16" in title else 1e-5), title
    assert found["teach"]["drawing on the device"]["same_draws"]
    assert all(values["same"] for title, values in found["bugs"].items() if title.startswith("sampling"))
    (fsdp,) = found["fsdp"].values()
    assert max(fsdp["loss_differs"], fsdp["norm_differs"]) < 1e-5
    assert fsdp["gathered"]
    assert fsdp["read"] == "ok"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu_sections.bench import Bench

    return Bench(began=time.monotonic(), seconds=1000.0, tiny=True, cpu=True, out=tmp_path)


def test_what_fails_says_why_and_the_rest_goes_on(bench, capsys):
    bench.begin("machine")
    bench.attempt("ours", Gemma2Config.preset, "gemma2-3b")
    bench.attempt("a child", bench.run, sys.executable, "-c", "raise ValueError('no such kernel')")
    bench.attempt("the next", dict, figure=1.23456)
    assert json.loads(bench.write().read_text()) == {"machine": bench.found["machine"]}
    ours, child, after = bench.found["machine"].values()
    assert ours["at"].startswith("model/config.py:")
    assert "gemma2-3b" in ours["why"]
    assert child["why"] == "ValueError: no such kernel"
    assert after == {"figure": 1.235}
    assert "no such kernel" in capsys.readouterr().out


def test_nothing_begins_when_the_time_is_over(bench):
    bench.began -= bench.allowed + 1
    bench.attempt("late", pytest.fail)
    assert bench.found[""] == {"late": {"left_out": "no time"}}
