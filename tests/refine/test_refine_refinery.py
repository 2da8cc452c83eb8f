"""The refinery's engine, with steps made for it: order, counts, resuming, and what it refuses."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from pyarrow.parquet import read_table

from gemmule.base.errors import RequestError
from gemmule.base.processes import Workers
from gemmule.refine import refinery
from gemmule.refine.documents import Reading
from gemmule.refine.files import resolve
from gemmule.refine.passes import Pass
from gemmule.refine.refinery import refine, resumable
from gemmule.refine.refining import processes_for
from gemmule.refine.sources import Document
from gemmule.refine.steps.step import CorpusStep, Decisions, DocumentStep, Drop, Verdict


class Upper(DocumentStep):
    """Changes the documents that begin with b."""

    name = "upper"

    def judge(self, document):
        if document.text.startswith("b"):
            return Verdict(replace(document, text=document.text.upper()), counts={"b": 1})
        return Verdict(document)


class NoX(DocumentStep):
    name = "no_x"

    def judge(self, document):
        if "x" in document.text:
            return Verdict(None, "x: one is too many", matched="x.txt:0")
        return Verdict(document)


class Common(DocumentStep):
    """Drops what begins with the commonest first letter."""

    name = "common"
    learns = True

    def prepare(self, folder, corpus):
        assert corpus is not None
        found = Counter()
        for some in corpus.map(first_letters):
            found += some
        self.letter = found.most_common(1)[0][0]

    def facts(self):
        return {"letter": self.letter}

    def judge(self, document):
        return Verdict(None, "common") if document.text[0] == self.letter else Verdict(document)


def first_letters(part):
    return Counter(document.text[0] for document in part)


class Same(CorpusStep):
    """Drops second copies, and shortens what is long."""

    name = "same"

    def decide(self, corpus):
        first, drops, texts = {}, [], {}
        for number, document in enumerate(corpus):
            assert corpus[number] == document
            if document.text in first:
                drops.append(Drop(number, "a copy", first[document.text]))
            elif len(document.text) > 30:
                texts[number] = document.text[:30]
            first.setdefault(document.text, document.place)
        return Decisions(drops, texts, {"cut": len(texts)})


def hide(text, language):
    return text.replace("secret", "<key>")


def words(count):
    starts = ["a", "b", "c", "ax", "secret x ", "d"]
    return [
        Document(f"{starts[n % 6]} is {n // 7} {'long ' * (n % 11)}", f"f{n // 50}.txt", n, "en") for n in range(count)
    ]


STEPS = [Upper, NoX, Common, Same, NoX]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(refinery, "BATCH_BYTES", 2000)


def run(documents, folder, processes=1, steps=STEPS):
    with Workers(processes) as workers:
        refined = refine(documents, [step() for step in steps], folder, workers, hide)
        folder.mkdir(exist_ok=True)
        record = refined.write(folder)
        return list(refined.corpus), record, read_table(folder / "dropped.parquet").to_pylist()


def by_hand(documents):
    left = [replace(each, text=each.text.upper()) if each.text.startswith("b") else each for each in documents]
    left = [each for each in left if "x" not in each.text]
    letter = Counter(each.text[0] for each in left).most_common(1)[0][0]
    left = [each for each in left if each.text[0] != letter]
    seen, found = set(), []
    for each in left:
        if each.text not in seen:
            found.append(replace(each, text=each.text[:30]))
        seen.add(each.text)
    return found


def without_times(record):
    for step in record["steps"]:
        step["seconds"] = 0.0
    return record


def test_documents_and_record_are_the_same_in_any_number_of_processes(tmp_path):
    documents = words(1000)
    alone, record, dropped = run(documents, tmp_path / "1")
    for processes in (2, 4):
        others, same_record, same_dropped = run(documents, tmp_path / str(processes), processes)
        assert others == alone
        assert without_times(same_record) == without_times(record)
        assert same_dropped == dropped
    assert alone == by_hand(documents)
    assert len(list((tmp_path / "1" / "00").glob("*.arrow"))) > 10


def test_the_record_counts_what_each_step_did(tmp_path):
    documents = words(600)
    left, record, dropped = run(documents, tmp_path / "w")
    steps = record["steps"]
    assert [step["name"] for step in steps] == ["upper", "no_x", "common", "same", "no_x"]
    assert steps[0]["documents_in"] == 600
    assert steps[0]["bytes_in"] == sum(len(each.text.encode()) for each in documents)
    assert steps[0]["changed"] == 100
    assert steps[0]["counts"] == {"b": 100}
    assert steps[1]["documents_in"] - steps[1]["documents_out"] == 200
    assert steps[2]["facts"] == {"letter": "a"}
    for step, after in pairwise(steps):
        assert step["documents_out"] == after["documents_in"]
        assert step["bytes_out"] == after["bytes_in"]
        assert len(step["dropped"]) == step["documents_in"] - step["documents_out"]
    assert steps[-1]["documents_out"] == len(left)
    assert steps[-1]["bytes_out"] == sum(len(each.text.encode()) for each in left)
    assert steps[1]["dropped"][0] == {
        "source": "f0.txt", "position": 3, "reason": "x: one is too many", "matched": "x.txt:0"
    }  # fmt: skip
    assert len(dropped) == 600 - len(left)
    assert record["languages"] == {"en": {"documents": len(left), "bytes": steps[-1]["bytes_out"]}}
    assert sum(count for _, count in record["lengths"]["raw"]) == 600
    assert sum(count for _, count in record["lengths"]["refined"]) == len(left)


def test_samples_of_what_was_dropped_are_masked(tmp_path):
    _, _, dropped = run(words(600), tmp_path / "w")
    samples = [row["sample"] for row in dropped if row["step"] == "no_x"]
    assert any("<key>" in sample for sample in samples)
    assert not any("secret" in sample for sample in samples)


def test_a_resumed_pass_does_only_what_is_not_done(tmp_path, monkeypatch):
    documents = words(1000)
    whole, record, _ = run(documents, tmp_path / "whole")

    def until(number):
        for document in documents:
            if document.position == number:
                raise KeyboardInterrupt
            yield document

    with pytest.raises(KeyboardInterrupt):
        run(until(700), tmp_path / "w")
    judged = []
    once = Pass.__call__
    monkeypatch.setattr(Pass, "__call__", lambda self, batch: (judged.append(batch[0]), once(self, batch))[1])
    done = len(list((tmp_path / "w" / "00").glob("*.json")))
    assert done > 5
    left, again, _ = run(documents, tmp_path / "w")
    assert left == whole
    assert without_times(again) == without_times(record)
    first_pass = judged[: judged.index(0)]
    assert first_pass[0] == done


def test_a_part_that_was_cut_short_is_made_again(tmp_path):
    documents = words(300)
    whole, _, _ = run(documents, tmp_path / "w")
    part = sorted((tmp_path / "w" / "00").glob("*.arrow"))[1]
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "00").mkdir()
    for file in (tmp_path / "w" / "00").iterdir():
        (copy / "00" / file.name).write_bytes(file.read_bytes()[: 100 if file.name == part.name else None])
    assert run(documents, copy)[0] == whole


def test_work_of_other_settings_is_not_resumed(tmp_path):
    folder = resumable(tmp_path / "w", {"a": 1})
    (folder / "kept").touch()
    assert (resumable(tmp_path / "w", {"a": 1}) / "kept").exists()
    assert not (resumable(tmp_path / "w", {"a": 2}) / "kept").exists()
    assert json.loads((folder / "identity.json").read_text()) == {"a": 2}


def test_where_no_document_is_left_the_step_is_named(tmp_path):
    documents = [Document(f"x {n}", "a.txt", n) for n in range(20)]
    with pytest.raises(RequestError, match=r"no document is left of 20: the last 20 were dropped by no_x: x \(20\)"):
        run(documents, tmp_path / "w", steps=[Upper, NoX])


def test_without_steps_all_stay(tmp_path):
    documents = words(100)
    left, record, dropped = run(documents, tmp_path / "w", steps=[])
    assert left == documents
    assert record["steps"] == dropped == []


def test_a_step_over_all_can_come_first(tmp_path):
    documents = [Document("one text", "a.txt", n) for n in range(9)]
    left, record, _ = run(documents, tmp_path / "w", steps=[Same])
    assert left == documents[:1]
    assert record["steps"][0]["bytes_in"] == 72
    assert record["steps"][0]["bytes_out"] == 8


def test_a_process_is_started_for_each_two_megabytes_of_text_and_no_more_than_may_be(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 5 * 2**20)
    (tmp_path / "b.txt.zst").write_bytes(b"x" * 2**21)
    plain, compressed = Reading(resolve(["a.txt"], tmp_path)), Reading(resolve(["b.txt.zst"], tmp_path))
    assert [processes_for(plain, most) for most in (1, 2, 8)] == [1, 2, 2]
    assert processes_for(compressed, 8) == 3
