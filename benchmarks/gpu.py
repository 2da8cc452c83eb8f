"""gemmule's CUDA paths on one GPU, proved and measured, in sections that each stand alone.

    python benchmarks/gpu.py [--only SECTIONS] [--seconds N] [--tiny] [--cpu]

It is made for a GPU that is at hand for a quarter of an hour, on a machine that has a PyTorch of its own (2.11 serves,
which gemmule's metadata refuses and its code does not; also transformers, tokenizers, pyarrow, rich, typer) and no
network. Nothing need be installed there but seven wheels, 4 MB. Before, in the root of a checkout, of which none of
this is committed (the versions after --python-version and --platform are the other machine's):

    echo /.gpu/ >> .git/info/exclude; mkdir -p .gpu/whl
    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .gpu/whl \\
        pydantic pydantic-core annotated-types typing-inspection typing-extensions tomli-w backports.zstd
    python benchmarks/gpu.py --tiny --cpu       # the script itself, in small: a minute

On the machine with the GPU, in the checkout with its .gpu folder, two calls, of 8 and of 5 minutes at most:

    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target .gpu/site \\
        .gpu/whl/*.whl
    export PYTHONPATH=$PWD:.gpu/site PYTHONUNBUFFERED=1 OUT=${OUT:-.gpu}
    python3 benchmarks/gpu.py --seconds 440 --only machine,parity,step,teach,head 2>&1 | tee $OUT/log
    python3 benchmarks/gpu.py --seconds 260 --only bugs,demo,fsdp,backbone,generate 2>&1 | tee $OUT/log

Keep gpu.json and log of the first call before the second. No measurement begins after --seconds; every line is printed
when it is known, and $OUT/gpu.json is written after every section, so that a call that is cut off loses little. What
fails says why, and the rest goes on. $OUT is benchmarks/work where it is not set.

    machine    ceilings: bf16, TF32, float32 products, copies on the device and to the host
    parity     attention's paths, whole models, optimizers against the CPU: values, losses, gradients
    step       whole training steps of a student: next tokens, stored targets, a live 2B teacher; also at V = 256k
    teach      filling stored targets: forward, logits, copy to the host, drawing; and drawing on the GPU
    head       the fused head at V = 256k beside whole logits and the chunked formula of Liger and TRL, and variants
    bugs       what a reading of the code said would go wrong: each line says whether it does
    demo       the demo's recipe: the ratio student / control, and how long it takes
    fsdp       FSDP2 with NCCL on one rank, by torchrun: parity, speed, a checkpoint's shards
    backbone   gemma2-2b's shape, 4 layers, T 4096 and 8192: gemmule, SDPA, transformers: tokens/s, peak memory
    generate   one and sixteen rows, 2B
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()

import argparse  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import traceback  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

from gpu_sections.bench import Bench  # noqa: E402

SECTIONS = ("machine", "parity", "step", "teach", "head", "bugs", "demo", "fsdp", "backbone", "generate")
CHILDREN = {  # what a process of its own does: a section's function
    "fsdp": ("fsdp", "child"),
    "recompute": ("bugs", "recompute_child"),
    "recompiles": ("bugs", "recompiles_child"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=sections, default=SECTIONS, help="sections, with commas between them")
    parser.add_argument("--seconds", type=float, default=570.0, help="nothing begins after these")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script itself")
    parser.add_argument("--cpu", action="store_true", help="not the GPU; sizes are small then too")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    wishes = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    out = Path(os.environ.get("OUT", "benchmarks/work"))
    bench = Bench(began=BEGAN, seconds=wishes.seconds, tiny=wishes.tiny, cpu=wishes.cpu, out=out)
    if wishes.child:
        module, function = CHILDREN[wishes.child]
        print(json.dumps(getattr(importlib.import_module(f"gpu_sections.{module}"), function)(bench), default=str))
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in wishes.only:
        if bench.spent > wishes.seconds:
            print(f"{name}: not begun, {bench.spent:.0f} s are over", flush=True)
            continue
        bench.begin(name)
        try:
            importlib.import_module(f"gpu_sections.{name}").run(bench)
        except Exception as error:
            traceback.print_exc()
            bench.say("the section itself", failed=type(error).__name__, why=str(error)[:300])
        bench.write()
    print(f"done in {bench.spent:.0f} s; {out / 'gpu.json'}")


def sections(names: str) -> list[str]:
    chosen = names.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return chosen


if __name__ == "__main__":
    main()
