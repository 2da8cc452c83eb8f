"""The study's texts are what it says of them; its findings are written; a tiny one runs."""

from __future__ import annotations

import json

import pytest

from gemmule.base.errors import RequestError
from gemmule.studies import refined_or_raw
from gemmule.studies.noise.duplicates import shingles

TINY = refined_or_raw.Scale(40, 4, {"layers": 1, "width": 32}, {"layers": 1, "width": 32}, 1000, 1000)


def test_a_third_of_the_raw_text_is_noise():
    noisy, _ = refined_or_raw.texts(refined_or_raw.SCALES["small"])
    size = {True: 0, False: 0}
    for one in noisy:
        size[bool(one.kind)] += len(one.text.encode())
    assert size[True] / sum(size.values()) == pytest.approx(1 / 3, abs=0.02)
    assert len(refined_or_raw.real(noisy)) == refined_or_raw.SCALES["small"].documents


def test_what_is_measured_on_is_in_none_of_the_texts():
    noisy, held_out = refined_or_raw.texts(refined_or_raw.SCALES["small"])
    read = set().union(*(shingles(one.text) for one in noisy))
    for text in held_out:
        assert len(shingles(text) & read) < 0.05 * len(shingles(text))  # "my lord, I will not ..."


def test_a_tiny_one(tmp_path, monkeypatch):
    monkeypatch.setitem(refined_or_raw.SCALES, "small", TINY)
    table = refined_or_raw.run("small", seeds=2, out=tmp_path / "study")
    assert table.row_count == 6
    found = json.loads((tmp_path / "study" / "findings.json").read_text())
    assert len(found["cells"]) == 12
    for cell in found["cells"]:
        assert len(cell["bits_per_byte"]) == len(cell["perplexity"]) == 2
    by_cell = {(cell["text"], cell["model"]): cell["perplexity"] for cell in found["cells"]}
    ratio = found["ratios"]["refined / raw, without a teacher"]
    mine, other = by_cell["refined", "without a teacher"], by_cell["raw", "without a teacher"]
    assert ratio["each"] == pytest.approx([mine[0] / other[0], mine[1] / other[1]])
    low, high = ratio["interval"]
    assert low < ratio["mean"] < high
    text = (tmp_path / "study" / "findings.md").read_text()
    assert f"{ratio['mean']:.3f}" in text
    (tmp_path / "study" / "findings.md").unlink()
    refined_or_raw.run("small", seeds=2, out=tmp_path / "study")  # nothing is trained again
    assert (tmp_path / "study" / "findings.md").read_text() == text


def test_what_it_refuses(tmp_path):
    with pytest.raises(RequestError, match="small, medium, large"):
        refined_or_raw.run("tiny", out=tmp_path)
    with pytest.raises(RequestError, match="at least 2"):
        refined_or_raw.run("small", seeds=1, out=tmp_path)
