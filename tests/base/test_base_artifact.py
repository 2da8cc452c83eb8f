"""Artifacts: whole or not there, verified, never overwritten, and held by one process at a time."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from gemmule.base import artifact, locks
from gemmule.base.errors import RequestError, WorkError


def make(path, text="hello", **manifest):
    with artifact.publish(path, "thing", **manifest) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text(text)
    return artifact.read(path)


def test_a_published_folder_says_what_it_holds(tmp_path):
    made = make(tmp_path / "a", settings={"seed": 3})
    fields = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert fields["kind"] == "thing"
    assert fields["settings"] == {"seed": 3}
    assert fields["files"] == {"sub/a.txt": {"sha256": hashlib.sha256(b"hello").hexdigest(), "size": 5}}
    assert set(fields["versions"]) == {"gemmule", "torch", "transformers", "tokenizers"}
    artifact.verify(made)


def test_the_hash_is_of_the_contents_alone(tmp_path):
    first, same, other = make(tmp_path / "a"), make(tmp_path / "b", settings={"x": 1}), make(tmp_path / "c", "hullo")
    assert first.hash == same.hash != other.hash


def test_a_card_tells_of_an_artifact_and_is_no_part_of_it(tmp_path):
    made = make(tmp_path / "a")
    with artifact.publish(tmp_path / "b", "thing") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("hello")
        (folder / "README.md").write_text("a card")
    carded = artifact.read(tmp_path / "b")
    assert carded.hash == made.hash
    (tmp_path / "b" / "README.md").write_text("another")
    artifact.verify(carded)


def test_ancestry_travels_along(tmp_path):
    grandparent = make(tmp_path / "a", settings={"seed": 1})
    parent = make(tmp_path / "b", "parent", inputs={"text": grandparent})
    child = make(tmp_path / "c", "child", inputs={"tokens": parent})
    assert child.manifest.inputs == {"tokens": parent.hash}
    assert child.manifest.ancestry[parent.hash]["inputs"] == {"text": grandparent.hash}
    assert child.manifest.ancestry[grandparent.hash]["settings"] == {"seed": 1}


def test_nothing_is_published_when_the_work_fails(tmp_path):
    def fail_half_way():
        with artifact.publish(tmp_path / "a", "thing") as folder:
            (folder / "half").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_is_no_obstacle(tmp_path):
    (tmp_path / ".a.tmp").mkdir()
    (tmp_path / ".a.tmp" / "rest").write_text("from before")
    made = make(tmp_path / "a")
    assert list(made.manifest.files) == ["sub/a.txt"]


def test_nothing_is_overwritten(tmp_path):
    make(tmp_path / "a")
    with pytest.raises(RequestError, match="exists already"):
        make(tmp_path / "a", "other")
    assert (tmp_path / "a" / "sub" / "a.txt").read_text() == "hello"


def test_damage_is_named(tmp_path):
    make(tmp_path / "a")
    file = tmp_path / "a" / "sub" / "a.txt"
    file.write_text("jello")
    with pytest.raises(WorkError, match=r"a\.txt.*sha256"):
        artifact.verify(artifact.read(tmp_path / "a"))
    file.write_text("hell")
    with pytest.raises(WorkError, match=r"a\.txt: 4 bytes where the manifest says 5"):
        artifact.read(tmp_path / "a")
    file.unlink()
    with pytest.raises(WorkError, match=r"a\.txt: missing"):
        artifact.read(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"kind": "x"}', '{"files": 3}'])
def test_a_broken_manifest_is_named(tmp_path, text):
    made = make(tmp_path / "a")
    (made / "manifest.json").write_text(text)
    with pytest.raises(WorkError, match="not a manifest"):
        artifact.read(made.path)


def test_no_bit_of_a_manifest_may_be_flipped(tmp_path):
    made = make(tmp_path / "a", settings={"seed": 1})
    written = (made / "manifest.json").read_bytes()
    for place in range(len(written)):
        flipped = bytearray(written)
        flipped[place] ^= 1 << place % 8
        (made / "manifest.json").write_bytes(flipped)
        with pytest.raises(WorkError):
            artifact.read(made.path)


def test_a_manifest_can_not_reach_outside_its_folder(tmp_path):
    made = make(tmp_path / "a")
    (tmp_path / "secret").write_text("secret")
    fields = json.loads((made / "manifest.json").read_text())
    fields["files"] = {"../secret": {"sha256": "0", "size": 6}}
    del fields["checksum"]
    (made / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(WorkError, match="outside"):
        artifact.read(made.path)


def test_differences_name_each_setting(monkeypatch, tmp_path):
    parent = make(tmp_path / "p", "parent")
    made = make(tmp_path / "a", settings={"seed": 1, "tokens": 5, "list": [1]}, inputs={"text": parent})
    inputs = {"text": parent.hash}
    assert artifact.differences(made, "thing", {"seed": 1, "tokens": 5, "list": (1,)}, inputs) == []
    assert artifact.differences(made, "thing", {"seed": 2, "tokens": 5}, inputs) == [
        "list: [1] -> null",
        "seed: 1 -> 2",
    ]
    assert artifact.differences(made, "thing", made.settings, {"text": "other"}) == ["its text changed"]
    assert artifact.differences(made, "stuff", made.settings, inputs) == ["kind: thing -> stuff"]
    monkeypatch.setitem(artifact.FORMAT_VERSIONS, "thing", 2)
    assert artifact.differences(made, "thing", made.settings, inputs) == ["format version: 1 -> 2"]


def test_retired_artifacts_keep_their_bytes_and_get_free_names(tmp_path):
    for number in (1, 2):
        make(tmp_path / "a", str(number))
        assert artifact.retire(tmp_path / "a", tmp_path / "old") == tmp_path / "old" / f"a-{number}"
    assert (tmp_path / "old" / "a-1" / "sub" / "a.txt").read_text() == "1"
    assert (tmp_path / "old" / "a-2" / "sub" / "a.txt").read_text() == "2"


HOLDER = """
import sys, time
from pathlib import Path
from gemmule.base import artifact, locks
with locks.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_and_freed_by_its_death(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RequestError, match=f"in use by process {holder.pid}"), locks.lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locks.lock(tmp_path):
        pass


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="file"), locks.lock(tmp_path / "file" / "run"):
        pass


def test_json_is_strict_and_a_number_that_is_not_finite_is_null(tmp_path):
    artifact.write_json(tmp_path / "a.json", {"a": [1.5, math.nan, {"b": -math.inf}], "c": (math.inf, "NaN", 2)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None, {"b": None}], "c": [None, "NaN", 2]}
    assert artifact.to_json({"é": math.nan}) == '{"é": null}'


def test_what_can_not_be_written_is_named_where_the_system_names_nothing(tmp_path):
    with (
        pytest.raises(WorkError, match=r"^here: can't be written: No space left on device$"),
        artifact.writing(Path("here")),
    ):
        raise OSError(28, "No space left on device")
    with (
        pytest.raises(WorkError, match=r"^here: can.t be written: No space left on device$"),
        artifact.writing(Path("here")),
    ):
        raise OSError("8960 requested and 8000 written")  # NumPy's words for it
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=r"file/.a.json.tmp: can't be written: Not a directory"):
        artifact.write_json(tmp_path / "file" / "a.json", {})
