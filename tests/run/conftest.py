"""A tiny recipe, its finished run, and the command line in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gemmule import cli

RECIPE = """
name = "tiny"
seed = 1
[data]
sources = ["texts"]
sequence_length = 16
validation_fraction = 0.2
[tokenizer]
vocabulary_size = 280
[models.teacher]
architecture = { layers = 2, width = 32 }
train = { tokens = 4096, batch_tokens = 256, warmup_fraction = 0.0 }
[models.student]
architecture = { layers = 2, width = 16 }
learn_from = "teacher"
train = { tokens = 2048, batch_tokens = 256, warmup_fraction = 0.0 }
[models.cached]
like = "student"
distill = { targets = { bytes_per_token = 30 } }
[models.control]
like = "student"
learn_from = "none"
[evaluate]
sample_tokens = 5
[machine]
device = "cpu"
compile = false
"""


@pytest.fixture(scope="session")
def run() -> Iterator[Callable[..., int]]:
    """The command in this process; gives its exit status. It measures speed and importance as briefly as it can."""

    def run(*arguments: object) -> int:
        sys.argv = ["gemmule", *map(str, arguments)]
        try:
            cli.main()
        except SystemExit as leaving:
            return int(leaving.code or 0)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gemmule.estimate.measuring.SECONDS", 0.5)
        patch.setattr("gemmule.train.loop.IMPORTANCE_TOKENS", 512)
        yield run


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """The files of a folder, by their names in it; hidden ones left out."""

    def contents(folder: Path) -> dict[str, bytes]:
        files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return contents


@pytest.fixture
def recipe(text_folder) -> Path:
    path = text_folder.parent / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def finished(run, tmp_path_factory, texts) -> Path:
    """A recipe and its finished run; copied by those who change it."""
    base = tmp_path_factory.mktemp("finished")
    (base / "texts").mkdir()
    for number, text in enumerate(texts):
        (base / "texts" / f"{number:02}.txt").write_text(text)
    (base / "tiny.toml").write_text(RECIPE)
    assert run("run", base / "tiny.toml", "--out", base / "run") == 0
    return base


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="session")
def final(finished) -> Path:
    """The finished run's teacher, a trained Gemma 2 in a folder."""
    return finished / "run" / "models" / "teacher" / "final"
