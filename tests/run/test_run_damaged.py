"""A bit that a disk has flipped in a run's tokens: named before it is learned, or skipped if the recipe says so."""

from __future__ import annotations

import json

from gemmule.tokenize import shards


def test_a_flipped_bit_stops_training_or_is_skipped(run, recipe, capsys, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK", 256)
    out = recipe.parent / "run"
    command = ("train", recipe, "--out", out, "--model", "control")
    assert run("tokenize", recipe, "--out", out) == 0
    tokens = out / "tokens" / "train" / "tokens-00000.npy"
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:1200] + bytes([whole[1200] ^ 4]) + whole[1201:])  # of token 536, after 128 of header
    assert run(*command) == 1
    said = capsys.readouterr().err
    assert f"{tokens}: tokens 512 to 767 are not what was written" in said
    assert 'data.damaged = "skip"' in said

    assert run(*command, "--set", "data.damaged=skip") == 0
    assert capsys.readouterr().err.count("tokens 512 to 767 are not what was written; windows with any of them") == 1
    records = [json.loads(line) for line in (out / "models" / "control" / "metrics.jsonl").open()]
    assert sum(record.get("damaged_windows", 0) for record in records) > 0
    final = out / "models" / "control" / "final"
    assert "damaged" not in (final / "manifest.json").read_text()  # what was asked for is no other model
    assert run("report", out) == 0
    assert "windows whose tokens or stored targets were damaged" in (out / "report.html").read_text()

    tokens.write_bytes(whole)  # and what was taught from whole tokens is not held against what is not
    assert run(*command) == 0
    assert "nothing to do" in capsys.readouterr().err
