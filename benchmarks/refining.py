"""The refinery: what it finds of noise planted in known amounts, how fast it is, and that it lets no personal data out.

    python benchmarks/refining.py [finds] [fast] [private] [--megabytes 4 16] [--repeats 3]

All three unless some are named. Text: pages of the bundled Shakespeare and of GSM8K's training questions.

- finds: every step by itself, then all together. Recall: of what was planted beyond a step's threshold, how much it
  dropped or put right. Precision: of what it dropped or changed, how much was planted (noise of another kind apart).
- fast: MB/s of each step on one core, of the whole command with one process and with two, anonymous memory at two
  sizes of text. Its rules beside datatrove's filters: benchmarks/refining_rules.py.
- private: runs a recipe to its trained model and searches every file of the run for what was planted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import common  # noqa: F401 (settles threads)
from refining_sections import fast, finds, private


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="finds|fast|private", default=["finds", "fast", "private"])
    parser.add_argument("--gsm8k", type=Path, default=Path("/work/shared/data"), help="the folder of gsm8k.*.jsonl")
    parser.add_argument("--size", type=int, default=200, help="noise of each kind, documents")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[4, 16], help="of text, to measure speed on")
    parser.add_argument("--repeats", type=int, default=3, help="of the whole command; medians")
    parser.add_argument("--keep", type=Path, help="a folder for what is made; default: none is kept")
    wishes = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = wishes.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if "finds" in wishes.parts:
            finds.run(folder, wishes.gsm8k, wishes.size)
        if "fast" in wishes.parts:
            fast.run(folder, wishes.gsm8k, wishes.megabytes, wishes.repeats)
        if "private" in wishes.parts:
            private.run(folder, wishes.gsm8k, wishes.size)


if __name__ == "__main__":
    main()
