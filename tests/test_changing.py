"""docs/changing.md names files that are there, and names in them that are theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "changing.md").read_text(encoding="utf-8")
USUAL = ("teacher kind", "loss", "optimizer", "text format", "step of the refinery", "recipe key", "GGUF type",
         "figure in the report", "task", "verb", "study", "architecture variant")  # fmt: skip
FILES = sorted(set(re.findall(r"`((?:gemmule|tests|docs|benchmarks|recipes)/[^`]*|[\w]+\.(?:md|toml))`", TEXT)))


@pytest.mark.parametrize("file", FILES)
def test_every_file_exists(file):
    assert (ROOT / file).exists()


def test_every_usual_change_is_there():
    titles = re.findall(r"^## An? (.+)$", TEXT, re.MULTILINE)
    assert titles == list(USUAL)
    for section in TEXT.split("\n## ")[1:]:
        assert re.search(r"^1\. `gemmule/", section, re.MULTILINE), section.splitlines()[0]


@pytest.mark.parametrize(
    ("file", "names"),
    [(match[1], match[2]) for match in re.finditer(r"^\d\. `(gemmule/[\w/]+\.py)`: (.*)$", TEXT, re.MULTILINE)],
)
def test_names_are_those_of_the_file(file, names):
    """What the text before the next file calls by a name of Python's stands in the file that the line is about."""
    code = (ROOT / file).read_text(encoding="utf-8")
    about = names.split("`gemmule/")[0].split("`pyproject.toml`")[0]
    for name in re.findall(r"`(_?[A-Za-z]\w+)(?:\.\w+)?`", about):
        assert re.search(rf"\b{name}\b", code), f"{name} is not in {file}"
