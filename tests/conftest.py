"""What many tests need: tiny texts, tokenizers, shards and models, made once."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from gemmule.base import host

# Before anything imports torch.
host.settle()  # as the command line does
os.environ.setdefault("HF_HUB_OFFLINE", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads only get in each other's way over models this small

WORDS = (
    "the", "a", "king", "queen", "fool", "said", "went", "saw", "loved", "and", "or", "not", "to", "of", "in", "under",
    "castle", "river", "night", "day", "sweet", "old",
)  # fmt: skip


def make_text(seed: int, words: int) -> str:
    """Text with something to learn: a few words, some far likelier than others, in lines."""
    generator = random.Random(seed)
    lines = [
        " ".join(generator.choices(WORDS, weights=range(len(WORDS), 0, -1), k=generator.randint(4, 9)))
        for _ in range(words // 6)
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [make_text(seed, 300) for seed in range(12)]


@pytest.fixture
def text_folder(tmp_path: Path, texts: list[str]) -> Path:
    """A folder of text files, with a recipe's name for it: `texts`."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number:02}.txt").write_text(text)
    return folder
