"""What benchmarks/refining.py counts, by hand: what was found, what was lost with it, and where personal data is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemmule.studies.noise import Noisy

REAL = Noisy("one two", clean="one two")
COPY = Noisy("one two", "exact duplicate", like=0)
FOREIGN = Noisy("eins zwei", "language", "de")
BROKEN = Noisy("cafÃ©", "mojibake", "windows-1252", clean="café")
PAGE = Noisy("Home\n\none\n\ntwo", "boilerplate", clean="one\n\ntwo", planted=("Home",))
PERSON = Noisy("call 123 now", "personal data", "phone", clean="call 123 now", planted=("123",))
LIKE = Noisy("version 123 now", "lookalike", "version", clean="version 123 now", planted=("123",))


@pytest.fixture
def sections(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from refining_sections import command, finds, private

    def refined(texts=None, dropped=()):
        return command.Refined(texts or {}, dict.fromkeys(dropped, ("step", "why")), [], 1.0, 1.0, 1.0)

    return finds, private, refined


def test_what_a_step_drops(sections):
    finds, _, refined = sections
    noisy = [REAL, COPY, COPY, FOREIGN, BROKEN]
    found = finds.dropping(noisy, refined(dropped=[1, 2, 4, 5]), lambda _, one: one.kind == "exact duplicate")
    assert (found.planted, found.right, found.wrong) == (2, 1, 1)  # noise of another kind is no loss
    assert found.row == ["2", "1", "0.500", "1", "0.500"]


def test_what_is_repaired(sections):
    finds, _, refined = sections
    found = finds.repairing([REAL, BROKEN, BROKEN], refined({1: "one too", 2: "café", 3: "caf"}))
    assert (found.planted, found.right, found.wrong) == (2, 1, 1)


def test_lines_that_are_taken_out(sections):
    finds, _, refined = sections
    texts = {1: "one two", 2: "one\n\ntwo", 3: "Home\n\none", 4: "two"}
    found = finds.removing("boilerplate", [REAL, PAGE, PAGE, REAL], refined(texts))
    assert (found.planted, found.right, found.wrong) == (2, 1, 2)  # "two" of a page, and half of a real text


def test_what_is_masked(sections):
    finds, _, refined = sections
    texts = {1: "call <phone> now", 2: "call 123 <ip>", 3: "version <card> now", 4: "<email> two"}
    found = finds.masking([PERSON, PERSON, LIKE, REAL], refined(texts))
    assert (found.planted, found.right, found.wrong) == (2, 1, 3)


def test_personal_data_is_found_wherever_it_is(sections, tmp_path, monkeypatch):
    import pyarrow
    from pyarrow.parquet import write_table

    _, private, _ = sections
    monkeypatch.setattr(private, "load_tokenizer", lambda folder: type("T", (), {"decode": lambda self, ids: "none"})())
    monkeypatch.setattr(private, "TokenShards", lambda folder: pyarrow.array([1]).to_numpy())
    (tmp_path / "log.json").write_text(json.dumps({"said": "call 123"}))
    write_table(pyarrow.table({"text": ["mail a@b.de"] * 9, "number": [1] * 9}), tmp_path / "a.parquet",
                compression="zstd")  # fmt: skip
    leaks, searched = private.search(tmp_path, [], ["123", "a@b.de", "missing"])
    assert leaks["123"] == {str(tmp_path / "log.json")}
    assert f"{tmp_path / 'a.parquet'}, column text" in leaks["a@b.de"]
    assert "missing" not in leaks
    assert searched == 6  # two files, two columns, two streams of tokens
