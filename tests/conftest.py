"""What many tests need: tiny texts, tokenizers, shards and models, made once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from made_text import make_text

from gemmule.base import host

# Before anything imports torch.
host.settle()  # as the command line does
os.environ.setdefault("HF_HUB_OFFLINE", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads only get in each other's way over models this small


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
