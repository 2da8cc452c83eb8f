"""What init finds that a text needs: by refining a sample of it."""

import json
from random import Random

import pytest
from made_text import make_text

from gemmule.init.refining import lines_for
from gemmule.refine.files import resolve
from gemmule.studies.noise.languages import foreign

PROSE = (
    "The miller had three sons, and when he grew old he sent for them and said that the mill should go to the one who "
    "brought home the best horse. They set out together, and when they had come to a cave the elder two told the "
    "youngest that he should stay behind, for he would never find a horse in all his life. "
)


def sample(tmp_path, texts):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return {line.text: line.why for line in lines_for(resolve(["a.jsonl"], tmp_path), "text")}


def prose(number):
    return PROSE + f"That was in the year {1000 + number}. " + make_text(number, 40)


@pytest.fixture(scope="module")
def texts():
    return [prose(number) for number in range(100)]


def test_a_clean_text_needs_the_defaults(tmp_path, texts):
    found = sample(tmp_path, texts)
    assert list(found) == [
        "repair = true", 'personal_data = "mask"', 'quality = "careful"', "duplicates = { exact = true, near = 0.8 }"
    ]  # fmt: skip
    assert found['personal_data = "mask"'] == "none was found in a sample"
    assert found['quality = "careful"'].endswith("drop 0.0% of a sample")


def test_what_was_found_is_said(tmp_path, texts):
    others = [foreign("de", 900, Random(number)) for number in range(4)]
    broken = [f"{texts[0]} “Where,” she asked, “is the café?”".encode().decode("cp1252", "replace")]
    personal = [f"{prose(200)} Write to anna.smith@mills.org.".replace("1200", "1201")]
    found = sample(tmp_path, [*texts, *texts[:5], *others, *broken, *personal])
    assert found['languages = ["en"]'] == "3.6% of a sample are in others: de"
    assert found['personal_data = "mask"'] == "1 <email> in a sample"
    assert found["duplicates = { exact = true, near = 0.8 }"].startswith("4.5% of a sample are copies")


def test_rules_that_would_drop_too_much_are_left_out(tmp_path):
    found = sample(tmp_path, [f"{number} {number * 7} {number * 31}\n" * 30 for number in range(100)])
    assert "quality = false" in found
    assert "would drop 100.0% of the documents" in found["quality = false"]
