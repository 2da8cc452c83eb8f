"""Text as users bring it: too little, in one file, not to be read; and a place that can not be written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest


def one_text(recipe: Path, text: str) -> None:
    shutil.rmtree(recipe.parent / "texts")
    (recipe.parent / "only.txt").write_text(text)
    changed = recipe.read_text().replace('"texts"', '"only.txt"')
    recipe.write_text(changed.replace("sequence_length = 16", "sequence_length = 256"))


def test_one_short_document_is_refused_in_words(run, recipe, capsys):
    """RWKV-PEFT#52: 300 bytes of text, sequence length 256."""
    one_text(recipe, "so it goes " * 27 + "\n\n")
    assert run("run", recipe, "--out", recipe.parent / "run") == 2
    said = capsys.readouterr().err
    assert "1 document" in said
    assert "at least 2" in said
    assert not (recipe.parent / "run" / "documents").exists()


def test_300_bytes_in_two_documents_run(run, recipe):
    """RWKV-PEFT#52, the other way: shorter than one window, it still trains on what there is."""
    one_text(recipe, "so it goes on and on and on. " * 5)
    recipe.write_text(recipe.read_text().replace('"only.txt"', '"only.txt", "other.txt"').replace("= 280", "= 262"))
    (recipe.parent / "other.txt").write_text("and then it stops, as all things do. " * 4)
    assert run("run", recipe, "--out", recipe.parent / "run") == 0
    models = json.loads((recipe.parent / "run" / "summary.json").read_text())["models"]
    assert all(figures["perplexity"] > 1 for figures in models.values())


def test_one_long_file_is_enough(run, recipe, texts):
    paragraphs = "\n\n".join(line for text in texts for line in text.splitlines())
    one_text(recipe, paragraphs * (70_000 // len(paragraphs) + 1))
    assert run("tokenize", recipe, "--out", recipe.parent / "run") == 0


def test_a_tokenizer_larger_than_the_text_supports(run, recipe, capsys):
    assert run("run", recipe, "--out", recipe.parent / "run", "--set", "tokenizer.vocabulary_size=5000") == 2
    said = capsys.readouterr().err
    largest = int(said.split("the maximum is ")[1].split(":")[0])
    assert 262 < largest < 5000
    assert run("tokenize", recipe, "--out", recipe.parent / "run", "--set", f"tokenizer.vocabulary_size={largest}") == 0


@pytest.mark.parametrize(
    ("prepare", "status", "words"),
    [
        (lambda texts: (texts / "empty.txt").write_bytes(b""), 2, "empty.txt"),
        (lambda texts: (texts / "latin.txt").write_bytes(b"ok\nca\xe9\n"), 2, "latin.txt, line 2"),
        (lambda texts: (texts / "x.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n'), 2, "x.jsonl, line 2"),
        (
            lambda texts: (texts / "cut.txt.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"),
            1,
            "cut.txt.gz",
        ),
    ],
)
def test_text_that_can_not_be_read_is_named(run, recipe, capsys, prepare, status, words):
    prepare(recipe.parent / "texts")
    assert run("run", recipe, "--out", recipe.parent / "run") == status
    assert words in capsys.readouterr().err
    assert not (recipe.parent / "run" / "documents").exists()


def test_a_place_that_can_not_be_written(run, recipe, capsys):
    (recipe.parent / "file").write_text("")
    assert run("run", recipe, "--out", recipe.parent / "file") in (1, 2)
    said = capsys.readouterr().err
    assert str(recipe.parent / "file") in said
    assert "Traceback" not in said


def test_keys_that_are_off_leave_no_trace(recipe):
    from gemmule import recipe as recipes
    from gemmule.plan.plan import Plan

    def settings(**data):
        raw = recipes.read(recipe)
        raw["data"] |= data
        return Plan(raw, recipe, recipe.parent / "run").documents.settings

    plain = settings()
    assert sorted(plain) == ["data.field", "data.sources", "data.validation_fraction"]
    (recipe.parent / "texts" / "z.txt").write_text("a text that is left out")
    assert settings(exclude=["texts/z.txt"], follow_links=True) == plain
    assert settings() != plain
    assert settings(exclude=["texts/z.txt"], bad_records="skip") == plain | {"data.bad_records": "skip"}


def test_bad_records_and_empty_files_are_skipped_where_that_is_asked_and_said(run, recipe, capsys):
    texts, out = recipe.parent / "texts", recipe.parent / "run"
    (texts / "empty.txt").write_bytes(b"")
    (texts / "x.jsonl").write_text('{"text": "so it goes"}\n{"txt": "b"}\nnonsense\n')
    assert run("refine", recipe, "--out", out) == 2
    assert 'data.bad_records = "skip"' in capsys.readouterr().err
    assert run("refine", recipe, "--out", out, "--set", "data.bad_records=skip") == 0
    said = capsys.readouterr().err
    assert "skipped: 2 bad records, 1 empty file; the first: " in said
    summary = json.loads((out / "documents" / "summary.json").read_text())
    assert (summary["bad_records"], summary["empty_files"]) == (2, 1)
    assert summary["first_bad"].startswith("texts/empty.txt: holds no text")
    assert run("refine", recipe, "--out", out, "--set", "data.bad_records=skip") == 0


def test_weights_are_part_of_what_documents_are_made_from_and_a_weight_of_one_is_none(run, recipe, capsys):
    out = recipe.parent / "run"

    def refine(sources):
        return run("refine", recipe, "--out", out, "--set", f"data.sources={sources}")

    assert refine('["texts"]') == 0
    once = json.loads((out / "documents" / "summary.json").read_text())
    assert refine('[{ path = "texts", weight = 1 }]') == 0
    assert "nothing to do" in capsys.readouterr().err
    assert refine('[{ path = "texts", weight = 2 }]') == 2
    assert "documents: data.sources: " in capsys.readouterr().err
    assert (
        run("refine", recipe, "--out", out, "--remake", "--set", 'data.sources=[{ path = "texts", weight = 2 }]') == 0
    )
    twice = json.loads((out / "documents" / "summary.json").read_text())
    assert twice["train_bytes"] == 2 * once["train_bytes"]
    assert twice["validation_bytes"] == once["validation_bytes"]
    assert run("refine", out / "recipe.toml", "--out", out) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_a_run_beneath_a_name_that_is_no_text(run, recipe, capsys):
    """Names are bytes; what gemmule keeps of them is text."""
    folder = Path(os.fsdecode(os.fsencode(recipe.parent) + b"/texts/caf\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system keeps names in UTF-8")
    (folder / "a.txt").write_text("so it goes")
    assert run("refine", recipe, "--out", recipe.parent / "run") == 0
    assert run("refine", recipe, "--out", recipe.parent / "run") == 0
    assert "nothing to do" in capsys.readouterr().err
    assert r"caf\\xe9/a.txt" in (recipe.parent / "run" / ".fingerprints.json").read_text()
