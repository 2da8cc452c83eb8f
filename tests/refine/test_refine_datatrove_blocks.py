"""Blocks of a datatrove pipeline decide as the refinery does, in datatrove's own executor with two workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemmule.base.errors import RequestError
from gemmule.base.processes import Workers
from gemmule.recipe import Refine
from gemmule.refine.refinery import refine
from gemmule.refine.refining import Refining
from gemmule.refine.sources import Document
from gemmule.refine.steps import Outside
from gemmule.studies.noise import each, plant, speeches, works

executors = pytest.importorskip("datatrove.executor")
pytest.importorskip("orjson")
readers = pytest.importorskip("datatrove.pipeline.readers")
writers = pytest.importorskip("datatrove.pipeline.writers")

from gemmule.refine.datatrove_blocks import RefineryBlock, document_steps  # noqa: E402 (after what it needs)

RECIPE = """
name = "small"
[data]
sources = ["raw/*.jsonl"]
[refine]
{refine}
[tokenizer]
vocabulary_size = 300
[models.small]
architecture = {{ layers = 1, width = 32 }}
train = {{ tokens = 1000 }}
"""
KEEP = "def keep(text):\n    return text.count('.') > 5\n"
ALL = 'languages = ["en"]\nkeep = "mine:keep"\ndecontaminate = ["items.jsonl"]'


@pytest.fixture
def folder(tmp_path):
    items = [
        "A farmer has twelve hens and sells four of them to his neighbour. How many hens does the farmer have then?"
    ]
    texts = list(speeches(works()["gemmule:shakespeare/hamlet.txt"]))
    noisy = plant(texts, each(1), seed=0, items=items)
    (tmp_path / "raw").mkdir()
    for number in range(4):
        rows = [{"id": str(place), "text": noisy[place].text} for place in range(number, len(noisy), 4)]
        (tmp_path / "raw" / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "items.jsonl").write_text(json.dumps({"text": items[0]}) + "\n")
    (tmp_path / "mine.py").write_text(KEEP)
    return tmp_path, [each.text for each in noisy]


def recipe(folder, refine):
    file = folder / "recipe.toml"
    file.write_text(RECIPE.format(refine=refine))
    return file


def read(folder):
    rows = [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return {int(row["id"]): row for row in rows}


def test_its_decisions_are_the_refinerys(folder, monkeypatch):
    folder, texts = folder
    file = recipe(folder, ALL)
    block = RefineryBlock(file, allow_code=True, exclusion_writer=writers.JsonlWriter(
        str(folder / "dropped"), compression=None))  # fmt: skip
    executors.LocalPipelineExecutor(
        [readers.JsonlReader(str(folder / "raw")), block, writers.JsonlWriter(str(folder / "out"), compression=None)],
        tasks=4, workers=2, logging_dir=str(folder / "logs"),
    ).run()  # fmt: skip

    documents = [Document(text, "raw.jsonl", number) for number, text in enumerate(texts)]
    done = refine(documents, block.steps, folder / "work", Workers(1), block.mask)
    ours = {document.position: document.text for document in done.corpus}
    dropped = {row["position"]: (outcome.name, row["reason"]) for outcome in done.outcomes for row in outcome.rows()}
    assert ours
    assert {step for step, _ in dropped.values()} == {"languages", "quality", "decontaminate", "keep"}
    assert {number: row["text"] for number, row in read(folder / "out").items()} == ours
    theirs = {number: row["metadata"] for number, row in read(folder / "dropped").items()}
    assert {number: (each["dropped_by"], each["reason"]) for number, each in theirs.items()} == dropped


def test_only_some_of_the_steps(folder):
    file = recipe(folder[0], ALL)
    assert [step.name for step in RefineryBlock(file, only=["keep"], allow_code=True).steps] == ["keep"]
    with pytest.raises(RequestError, match="near_duplicates"):
        RefineryBlock(file, only=["near_duplicates"], allow_code=True)


def test_steps_over_all_documents_are_left_out():
    names = {step.name for step in document_steps(Refining(Refine(), Outside(Path())))}
    assert not names & {"boilerplate", "exact_duplicates", "near_duplicates"}


def test_code_is_run_where_that_is_said(folder):
    with pytest.raises(RequestError, match="allow_code"):
        RefineryBlock(recipe(folder[0], ALL))


def test_a_recipe_without_refine_has_no_steps(folder):
    file = recipe(folder[0], "")
    file.write_text(file.read_text().replace("[refine]", ""))
    with pytest.raises(RequestError, match="no section"):
        RefineryBlock(file)
