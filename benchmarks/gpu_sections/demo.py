"""The demo's recipe on the device: perplexities, their ratio, and how long it takes."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import common

from gpu_sections.bench import Bench, Values

TINY = (
    "models.teacher.train.tokens=8192",
    "models.student.train.tokens=4096",
    "data.validation_fraction=0.002",
    "tokenizer.vocabulary_size=512",
    "evaluate.sample_tokens=4",
)


def run(bench: Bench) -> None:
    bench.attempt("recipes/demo.toml [63.5, 82.3, 114.5, ratio 0.72]", demo, bench)


def demo(bench: Bench) -> Values:
    settings = [f"machine.device={bench.device.type}", *(TINY if bench.tiny else ())]
    overrides = [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        begin = time.perf_counter()
        done = bench.run(sys.executable, "-m", "gemmule", "run", str(common.DEMO), "--out", str(out), *overrides)
        took = time.perf_counter() - begin
        models = json.loads((out / "summary.json").read_text())["models"]
    said = [line for line in done.stderr.splitlines() if "does not work" in line]  # FlexAttention, torch.compile
    return {
        **{name: figures["perplexity"] for name, figures in models.items()},
        "ratio": models["student"]["perplexity"] / models["control"]["perplexity"],
        "seconds": took,
        **{f"{name}_tokens_per_s": figures["train_tokens"] / figures["seconds"] for name, figures in models.items()},
        "said": " / ".join(said)[:200],
    }
