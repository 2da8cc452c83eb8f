"""Which kind a source is of, and what a run records of it: as every version before has written it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gemmule.base.errors import RequestError
from gemmule.teach import teachers
from gemmule.teach.teachers import kinds
from gemmule.teach.teachers.kinds import Record, kind_of, named
from gemmule.teach.teachers.served import ServedRecord


def folder_of(path, architecture):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": architecture}))
    return path


def test_each_source_is_of_its_kind(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF and more")
    (tmp_path / "m.bin").write_bytes(b"GGML")
    sources = {
        "served": "http://localhost:8000/v1",
        "gguf": tmp_path / "m.gguf",
        "gemma2": folder_of(tmp_path / "gemma", "gemma2"),
        "huggingface": folder_of(tmp_path / "llama", "llama"),
    }
    assert {name: kind_of(source).name for name, source in sources.items()} == {name: name for name in sources}
    assert [kind.name for kind in map(named, teachers.KINDS)] == list(teachers.KINDS)
    for nothing in (tmp_path / "m.bin", tmp_path / "nothing", "owner/name"):
        assert kind_of(nothing) is None
    with pytest.raises(RequestError, match=r"gemma/\.\.: its config\.json can't be read"):
        kind_of(tmp_path / "gemma" / "..")


@pytest.mark.parametrize(
    ("content", "record"),
    [
        ({"source": "/m"}, Record("/m", "gemma2")),  # before there were other kinds
        ({"source": "a/b", "kind": "huggingface", "files": "3 files"}, Record("a/b", "huggingface", "3 files")),
        ({"source": "http://s/v1", "kind": "served", "top_k": 5}, ServedRecord("http://s/v1", "served", top_k=5)),
        (
            {"source": "http://s/v1", "kind": "served", "model": "m", "top_k": 5},
            ServedRecord("http://s/v1", "served", model="m", top_k=5),
        ),
    ],
)
def test_records_of_every_version_are_read(tmp_path, content, record):
    (tmp_path / "source.json").write_text(json.dumps(content))
    assert Record.read(tmp_path) == record
    assert record.top_k == content.get("top_k")
    (tmp_path / "again").mkdir()
    record.write(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "source.json").read_text())
    assert list(written.items()) == list({"source": "", "kind": "gemma2", **content}.items())


def test_a_kind_of_a_later_version_is_named(tmp_path):
    (tmp_path / "source.json").write_text('{"source": "x", "kind": "oracle"}')
    with pytest.raises(RequestError, match="'oracle': no kind of model"):
        Record.read(tmp_path)


def test_a_place_is_fetched_for_a_hub_id_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds.hub, "find_folder", lambda source, patterns, download: (source, patterns, download))
    assert kinds.place_of("http://s/v1", ("config.json",)) == "http://s/v1"
    assert kinds.place_of(tmp_path, ("config.json",)) == tmp_path
    assert kinds.place_of("owner/name", ("config.json",), download=False) == ("owner/name", ("config.json",), False)


LIGHT = """
import sys
from gemmule.teach import teachers
from gemmule.teach.teachers import kinds
for name in teachers.KINDS:
    kinds.named(name)
heavy = {"torch", "transformers", "httpx2", "gguf", "accelerate"} & set(sys.modules)
assert not heavy, heavy
"""


def test_kinds_are_asked_without_torch_or_an_extra():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
