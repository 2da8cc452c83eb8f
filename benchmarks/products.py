"""The head's product, [rows, width] times the transpose of [vocabulary, width]: piece by piece against all at once.

    python benchmarks/products.py [--threads 2] [--repeats 9]

Both write into memory that is there already, by turns; medians. Prints one table, in GFLOP/s.
"""

from __future__ import annotations

import argparse
from functools import partial

import common
import torch
from rich.table import Table

from gemmule.base.linear import multiply_into

SHAPES = (  # vocabulary, width, rows
    (8_192, 256, 256), (8_192, 256, 2_048), (32_768, 256, 512), (65_536, 640, 256), (262_144, 144, 64),
    (262_144, 640, 16), (262_144, 640, 64), (262_144, 640, 128), (32_768, 2_304, 64),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    wishes = parser.parse_args()
    torch.set_num_threads(wishes.threads)
    table = Table("vocabulary", "width", "rows", "all at once", "piece by piece", "ratio")
    for vocabulary, width, rows in SHAPES:
        x, weight, out = torch.randn(rows, width), torch.randn(vocabulary, width), torch.empty(rows, vocabulary)
        once, pieces = common.medians(
            wishes.repeats, partial(torch.mm, x, weight.mT, out=out), partial(multiply_into, x, weight, out)
        )
        flops = 2 * rows * vocabulary * width / 1e9
        numbers = (f"{vocabulary:,}", f"{width:,}", f"{rows:,}")
        table.add_row(*numbers, f"{flops / once:.0f}", f"{flops / pieces:.0f}", f"{once / pieces:.2f}")
    print(f"torch {torch.__version__}, {wishes.threads} threads")
    common.show(table)


if __name__ == "__main__":
    main()
