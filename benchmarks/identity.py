"""The hashes of everything a short family of models makes: run it before and after a change that is to change nothing.

    python benchmarks/identity.py            one thread, models of every kind of training (2 min)
    python benchmarks/identity.py --demo     the demo's shapes and text on two threads, at 60k and 40k tokens (2 min)

Prints one line an artifact: its name, and the first 16 digits of the SHA-256 of its files' contents (manifests aside).
The floating-point results of one host and number of threads are compared; another host may round otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = """
name = "identity"
seed = 3
[data]
sources = ["gemmule:shakespeare"]
validation_fraction = 0.05
sequence_length = 64
separate_documents = true
[tokenizer]
vocabulary_size = 512
[models.teacher]
architecture = { layers = 4, width = 64, heads = 4, kv_heads = 2, head_dim = 16, ffn_width = 128, window = 16 }
train = { tokens = "30k", batch_tokens = 1024 }
[models.student]
architecture = { layers = 2, width = 32, heads = 2, kv_heads = 1, head_dim = 16, ffn_width = 64, window = 16 }
learn_from = "teacher"
train = { tokens = "20k", batch_tokens = 1024, micro_batch_tokens = 256 }
[models.control]
like = "student"
learn_from = "none"
[models.stored]
like = "student"
distill = { targets = { bytes_per_token = 30 }, token_weights = "entropy" }
[models.jsd]
like = "student"
distill = { loss = "jsd", next_token_weight = 0.3 }
[models.reverse]
like = "student"
distill = { loss = "reverse_kl", temperature = 1.5 }
[models.muon]
like = "control"
train = { tokens = "20k", batch_tokens = 1024, optimizer = "muon" }
[models.cut]
start_from = "teacher"
architecture = { layers = 2, width = 48, heads = 2, kv_heads = 1, head_dim = 16, ffn_width = 64, window = 16 }
learn_from = { teacher = 0.6, student = 0.4 }
train = { tokens = "20k", batch_tokens = 1024 }
[machine]
device = "cpu"
compile = false
"""
OF_DEMO = ("models.teacher.train.tokens=60k", "models.student.train.tokens=40k")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true")
    demo = parser.parse_args().demo
    with tempfile.TemporaryDirectory() as scratch:
        recipe, out = Path(scratch, "identity.toml"), Path(scratch, "run")
        recipe.write_text(RECIPE)
        named = ["gemmule:demo", "--set", OF_DEMO[0], "--set", OF_DEMO[1]] if demo else [str(recipe)]
        command = [sys.executable, "-m", "gemmule", "run", *named, "--out", str(out)]
        made = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "2" if demo else "1"}, capture_output=True, text=True
        )
        if made.returncode:
            sys.exit(made.stderr)
        manifests = [path for path in sorted(out.glob("**/manifest.json")) if "checkpoints" not in path.parts]
        for manifest in manifests:
            print(f"{manifest.parent.relative_to(out)!s:<32} {of_folder(manifest.parent)}")


def of_folder(folder: Path) -> str:
    """Of a model its weights: a card and a manifest tell how it was made, in words that may change."""
    digest = hashlib.sha256()
    files = [folder / "model.safetensors"] if (folder / "model.safetensors").is_file() else sorted(folder.iterdir())
    for file in files:
        if file.is_file() and file.name != "manifest.json":
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    main()
