"""The refinery's page: its numbers are those of refinery.json, and what it shows of documents is escaped."""

import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from made_refinery import drop, step, web_crawl, write_refinery
from parsed_page import Page

from gemmule.base.errors import WorkError
from gemmule.refine.page import write_page
from gemmule.refine.page.page import render


@pytest.fixture(scope="module")
def crawl(tmp_path_factory) -> Path:
    folder = web_crawl(tmp_path_factory.mktemp("crawl"))
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def page(crawl) -> Page:
    return Page((crawl / "refinery.html").read_text(encoding="utf-8"))


def rendered(folder: Path, *steps, drops=(), kept=(), **more) -> Page:
    return Page(render(write_refinery(folder, steps, drops, kept, **more)))


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def section(folder: Path, title: str) -> str:
    """The words of a step's section."""
    sections = re.findall(r'<section class="of-step">(.*?)</section>', render(folder), re.DOTALL)
    texts = (words(unescape(re.sub("<[^>]+>", " ", each))) for each in sections)
    return next(text for text in texts if text.startswith(title))


def test_the_headline_says_how_much_goes_on_and_what_took_most(page):
    assert page.texts("h1") == ["25,088 of 40,000 documents kept, 63.8% of the bytes"]
    assert page.texts("title")[0] == page.texts("h1")[0]
    assert page.texts("p", "lede") == [
        "117\u00a0MB of 183\u00a0MB. Languages took most: 5,789 documents, 21.6\u00a0MB, 11.8%."
    ]


def test_the_table_has_the_numbers_of_the_record(crawl, page):
    steps = json.loads((crawl / "refinery.json").read_text())["steps"]
    rows = [words(text).split(" ") for text in page.texts("tr") if re.search(r"\d (s|min)", words(text))]
    assert len(rows) == len(steps) == 11
    for row, each in zip(rows, steps, strict=True):
        numbers = [cell for cell in row if re.fullmatch(r"[\d,]+", cell)]
        assert numbers[:2] == [f"{each['documents_in']:,}", f"{each['documents_out']:,}"], row
        assert f"{each['changed']:,}" in numbers[2:], row


def test_both_pictures_say_what_each_step_took(page):
    spoken = [each["aria-label"] for tag, each, _ in page.elements if tag == "svg" and each["class"] == "flow"]
    assert len(set(spoken)) == 1
    assert len(spoken) == 2
    assert "Quality rules: 3,211 documents dropped, 10.6\u00a0MB less" in spoken[0]
    assert "Minus a collection: nothing dropped" in spoken[0]
    assert spoken[0].endswith("Out: 25,088 documents, 117\u00a0MB.")


def test_every_step_that_did_something_has_a_section_with_its_source_and_settings(crawl, page):
    titles = page.texts("h2")
    assert titles == [
        "What happened to the text", "Steps", "Repair", "Languages", "Personal data", "Quality rules",
        "Boilerplate lines", "Exact duplicates", "Near duplicates", "Repeated passages", "Evaluation text", "Lengths",
        "Languages of what was kept", "The recipe",
    ]  # fmt: skip
    quality = section(crawl, "Quality rules")
    assert "arXiv 2112.11446" in quality
    assert "[refine] quality = true" in quality
    assert "Dropped 3,211 of 34,211 documents, changed 61: 10.6 MB less, 5.8% of all bytes." in quality
    assert 'languages = ["en"] language_threshold = 0.5' in section(crawl, "Languages")
    assert "duplicates = { exact = true, near = 0.8, substrings = 50 }" in section(crawl, "Near duplicates")
    assert "Dropped nothing, changed 3,112: 12 kB more." in section(crawl, "Repair")
    assert "Lines notices 140 long words 52 Set aside short 9" in quality
    assert "Lines found 214 Lines 40,211" in section(crawl, "Boilerplate lines")
    assert "\n# minus: 2 files, 3639 bytes, sha256 9f2c9f2c9f2c9f2c\n" in page.texts("pre")[-1]


def test_reasons_that_differ_in_their_figures_are_one_rule(crawl):
    quality = section(crawl, "Quality rules")
    assert "gopher: 0 to 49 words, fewer than 50 1,411" in quality
    assert "c4: 0 to 8 of 9 to 15 lines end without a full stop 1,000" in quality
    assert quality.index("gopher:") < quality.index("c4:") < quality.index("repetition:")


def test_personal_data_is_counted_by_kind(crawl):
    found = section(crawl, "Personal data")
    assert "Found, by kind <email> 2,411 <phone> 903 <ip> 61 <card> 3 <key> 1" in found


def test_contamination_is_told_by_set_and_by_item(crawl):
    evaluation = section(crawl, "Evaluation text")
    assert "Items 1,319 Too short 14" in evaluation
    assert "items too short documents eval/gsm8k.jsonl 1,000 11 9 eval/arc.jsonl 319 3 3" in evaluation
    assert "Items met most often, with documents eval/gsm8k.jsonl:17 8 eval/my_arc.jsonl:2 3" in evaluation


def test_what_was_matched_most_often_is_told(crawl):
    assert f"Matched most often Like Documents crawl/part-01.jsonl.gz:0 {2900 // 41 + 1}" in section(
        crawl, "Near duplicates"
    )


def test_a_near_duplicate_stands_beside_what_it_is_like(tmp_path):
    page = rendered(
        tmp_path, step("near_duplicates", (2, 1), (200, 100)),
        drops=[drop("near_duplicates", "new.txt", 7, "Jaccard 0.91", "old.txt:0", sample="the old king came home")],
        kept=[("the young king came home", "old.txt", 0)],
    )  # fmt: skip
    assert [words(text) for text in page.texts("p", "text")] == ["the old king came home", "the young king came home"]
    assert page.texts("mark") == ["old", "young"]
    assert [words(text) for text in page.texts("p", "place")] == ["Dropped new.txt:7", "Like old.txt:0"]
    assert "Jaccard 0.91" in page.texts("p", "reason")[0]


def test_where_texts_are_cut_off_they_do_not_differ(tmp_path):
    text = " ".join(f"word{number}" for number in range(99))
    drops = [drop("near_duplicates", "new.txt", 7, "Jaccard 0.91", "old.txt:0", sample=f"so {text}"[:400])]
    page = rendered(tmp_path, step("near_duplicates", (2, 1), (9, 8)), drops=drops, kept=[(text, "old.txt", 0)])
    assert page.texts("mark") == ["so "]  # though three characters more of the other are shown
    assert page.texts("p", "text")[0] == f"so {text}"[:400].rsplit(" ", 1)[0] + " …"


def test_text_without_spaces_is_compared_by_signs(tmp_path):
    drops = [drop("near_duplicates", "a", 0, "Jaccard 0.91", "b:0", sample="吾輩は猫である。名前はまだ無い。")]
    page = rendered(
        tmp_path,
        step("near_duplicates", (2, 1), (9, 8)),
        drops=drops,
        kept=[("吾輩は犬である。名前はまだ無い。", "b", 0)],
    )
    assert page.texts("mark") == ["猫", "犬"]


def test_of_a_place_that_two_documents_have_no_text_is_shown(tmp_path):
    page = rendered(
        tmp_path, step("near_duplicates", (3, 2), (300, 200)),
        drops=[drop("near_duplicates", "new.txt", 7, "Jaccard 0.91", "old.jsonl:1", sample="one text")],
        kept=[("first part", "old.jsonl", 1), ("another", "old.jsonl", 2), ("second part", "old.jsonl", 1)],
    )  # fmt: skip
    assert page.texts("p", "text") == ["one text"]
    assert [words(text) for text in page.texts("p", "place")] == ["Dropped new.txt:7", "Like old.jsonl:1"]


def test_samples_go_from_the_lowest_figure_to_the_highest(tmp_path):
    figures = [40, 7, 1_200, 12, 9, 33]
    drops = [drop("quality", "a.txt", n, f"gopher: {n:,} words", sample=f"text {n}") for n in figures]
    page = rendered(tmp_path, step("quality", (10, 4), (100, 40)), drops=drops)
    assert page.texts("p", "text") == ["text 7", "text 12", "text 1200"]
    assert [words(text) for text in page.texts("span", "words")] == ["gopher: 7 to 1,200 words"]


HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(2)>\u202e&amp;\x1b[2J"


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    drops = [drop(f"n{HOSTILE}", HOSTILE, 0, f"{HOSTILE} 12", f"{HOSTILE}:3", sample=HOSTILE) for _ in range(2)]
    page = rendered(
        tmp_path,
        step(f"n{HOSTILE}", (9, 7), (90, 80), counts={f"c{HOSTILE}": 2}, facts={HOSTILE: HOSTILE}),
        step("personal_data", (7, 7), (80, 80), counts={HOSTILE: 2}),
        step("near_duplicates", (7, 6), (80, 70)),
        drops=[*drops, drop("near_duplicates", "a", 0, "J", "k:0", sample=HOSTILE)],
        kept=[(f"{HOSTILE} kept", "k", 0)],
        languages={HOSTILE: {"documents": 1, "bytes": 2}}, settings={f"n{HOSTILE}": HOSTILE},
    )  # fmt: skip
    assert not [tag for tag, _, _ in page.elements if tag in ("script", "img")]
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]
    shown = "</p><script>alert(1)</script><img src=x onerror=alert(2)>[U+202E]&amp;␛[2J"
    assert page.texts("p", "text")[0] == shown
    assert page.texts("p", "text")[-1] == f"{shown} kept"
    assert page.texts("dd") == [shown, "2"]
    assert {shown, f"c{shown}".capitalize()} <= {*page.texts("th"), *(text.capitalize() for text in page.texts("dt"))}
    assert {f"n{shown}"} <= set(page.texts("h2"))
    assert "default-src 'none'" in render(tmp_path)


def test_nothing_on_the_page_is_invisible(tmp_path):
    """Neither in a picture's title nor anywhere else."""
    rendered(tmp_path, step(f"n{HOSTILE}", (9, 7), (90, 80)))
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", render(tmp_path))


@pytest.mark.parametrize(
    ("documents", "bytes", "headline"),
    [
        ((0, 0), (0, 0), "No documents came in"),
        ((5, 0), (50, 0), "All 5 documents were dropped"),
        ((1, 1), (50, 50), "All 1 document kept, 100.0% of the bytes"),
        ((5, 5), (50_000, 49_999), "All 5 documents kept, >99.9% of the bytes"),
        ((5, 1), (50_000, 1), "1 of 5 documents kept, <0.1% of the bytes"),
    ],
)
def test_every_end_has_its_headline(documents, bytes, headline, tmp_path):
    page = rendered(tmp_path, step("quality", documents, bytes))
    assert page.texts("h1") == [headline]
    assert not re.search(r"\b(nan|inf|None)\b", " ".join(page.texts("body")))


def test_what_is_missing_does_not_break_it(tmp_path):
    bare = {"name": "my_step", "documents_in": 3, "documents_out": 2, "bytes_in": 30, "bytes_out": 20}
    (tmp_path / "refinery.json").write_text(json.dumps({"steps": [bare]}))
    page = Page(render(tmp_path))
    assert "my_step" in page.texts("h2")
    (tmp_path / "refinery.json").write_text(json.dumps({"steps": []}))
    assert Page(render(tmp_path)).texts("h1") == ["No documents came in"]


def test_without_steps_all_is_kept(tmp_path):
    page = rendered(tmp_path, languages={"": {"documents": 3, "bytes": 30}})
    assert page.texts("h1") == ["All 3 documents kept, 100.0% of the bytes"]
    assert page.texts("p", "lede") == ["30\u00a0B of 30\u00a0B. Nothing was dropped."]
    assert "Languages of what was kept" not in page.texts("h2")  # nobody looked


def test_reasons_without_number_do_not_fill_the_page(tmp_path):
    letters = [f"{chr(97 + n // 26 // 26)}{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}" for n in range(3000)]
    drops = [drop("keep", "a.txt", n, f"mine: {name}", sample=name) for n, name in enumerate(letters)]
    page = rendered(tmp_path, step("keep", (4000, 1000), (4000, 1000)), drops=drops)
    assert len(page.texts("details", "rule")) == 12
    assert "And 2,988 for other reasons: see dropped.parquet." in section(tmp_path, "Your own function")


def test_equal_data_gives_equal_bytes_in_any_process(crawl):
    code = (
        "import sys; from pathlib import Path; from gemmule.refine.page.page import render;"
        "page = render(Path(sys.argv[1])); assert not {'torch', 'transformers'} & sys.modules.keys();"
        "sys.stdout.buffer.write(page.encode())"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(crawl)]
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == (crawl / "refinery.html").read_bytes()


def test_it_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_refinery(tmp_path, [step("quality", (2, 1), (2, 1))])
    (tmp_path / "refinery.html").write_text("old")

    def full(self, argument):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WorkError, match=r"refinery\.html: can't be written: No space left on device"):
        write_page(tmp_path)
    assert (tmp_path / "refinery.html").read_text() == "old"
    assert not list(tmp_path.glob("*.tmp"))
