"""Puts the page together: computes what it says, fills the template, writes the file whole or not at all.

Everything that comes from a document or a file's name is escaped. Equal refinery.json and dropped.parquet give equal
bytes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from markupsafe import Markup

from gemmule.base import artifact, units
from gemmule.base.page import environment, visible
from gemmule.base.page.svg import element
from gemmule.refine.page.drops import Drop, Drops, Rule, kept_texts, read_drops
from gemmule.refine.page.flow_picture import flow_narrow, flow_wide
from gemmule.refine.page.lengths_picture import lengths
from gemmule.refine.page.record import Fact, Number, Record, StepRecord
from gemmule.refine.page.told import Told, recipe_lines, told
from gemmule.refine.passes import SAMPLE

PAGE = "refinery.html"
Shown = tuple[Number, str]  # a value, and how it is written
WORD = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")  # or a sign that is one
MOST_SHOWN = 12  # rules, kinds, items
MOST_LANGUAGES = 30


@dataclass(frozen=True)
class Bar:
    """A line of a table with bars; `length` in percent of the longest."""

    name: str
    value: str
    length: float


@dataclass(frozen=True)
class Sample:
    """A document that was dropped."""

    drop: Drop
    text: Markup
    like: Markup | None = None  # the text that it is like, where that is known and differs


@dataclass(frozen=True)
class Section:
    """What the page says of one step."""

    step: StepRecord
    told: Told
    said: str
    lines: list[str]  # of the recipe
    facts: dict[str, str]
    by_name: list[list[str]]  # facts and counts of each of several files; the first row are titles
    counts: dict[str, list[Bar]]  # by what they are of
    more_counts: int  # kinds that are not shown
    rules: list[tuple[Rule, float, list[Sample]]]  # with the length of its bar
    others: int  # documents dropped for reasons that are not shown
    matched: list[tuple[str, int]]


def write_page(folder: Path) -> None:
    """Writes refinery.html into `folder`, from the refinery.json and dropped.parquet there.

    Raises WorkError naming the path that can't be written; then nothing is, or the old page stays.
    """
    artifact.replace_file(folder / PAGE, render(folder).encode("utf-8", errors="replace"))


def render(folder: Path) -> str:
    """The page as HTML."""
    record, drops = Record.read(folder), read_drops(folder)
    like = (drop.matched for each in drops.values() for rule in each.ranked[:MOST_SHOWN] for drop in rule.samples)
    kept = kept_texts(folder, filter(None, like), SAMPLE)
    template = environment(Path(__file__).parent).get_template("template.html.jinja")
    return template.render(
        record=record,
        headline=headline(record),
        largest=_largest(record),
        flow=(flow_wide(record), flow_narrow(record)),
        titles={step.name: told(step).title for step in record.steps},
        sections=[_section(step, record, drops.get(step.name, Drops()), kept) for step in filter(_acted, record.steps)],
        languages=_languages(record),
        lengths=(lengths(record, width=720, height=260), lengths(record, width=350, height=220)),
        lines=recipe_lines(record.settings, tuple(record.settings)),
    )


def headline(record: Record) -> str:
    """How much was kept, in words."""
    out, all_of = record.documents_out, record.documents_in
    if not all_of:
        return "No documents came in"
    if not out:
        return f"All {_documents(all_of)} were dropped"
    share = units.share(record.bytes_out, record.bytes_in)
    if out == all_of:
        return f"All {_documents(out)} kept, {share} of the bytes"
    return f"{out:,} of {_documents(all_of)} kept, {share} of the bytes"


def _largest(record: Record) -> str:
    """The step that took most, in a sentence."""
    step = record.largest
    if step is None:
        return "Nothing was dropped."
    documents = f"{_documents(step.dropped)}, " if step.dropped else ""
    return (
        f"{told(step).title} took most: {documents}{units.size(step.lost)}, {units.share(step.lost, record.bytes_in)}."
    )


def _documents(count: int) -> str:
    return f"{count:,} document{'' if count == 1 else 's'}"


def _acted(step: StepRecord) -> bool:
    """Whether there is anything to say of it."""
    return bool(step.dropped or step.lost or step.changed or step.counts or step.facts)


def _section(step: StepRecord, record: Record, drops: Drops, kept: Mapping[str, str]) -> Section:
    shown = drops.ranked[:MOST_SHOWN]
    most = max((rule.documents for rule in shown), default=1)
    of_step, of_names = _facts(step)
    alike, unlike = _counts({kind: count for kind, count in step.counts.items() if kind not in of_names}, told(step))
    return Section(
        step=step,
        told=told(step),
        said=_said(step, record),
        lines=recipe_lines(record.settings, told(step).keys),
        facts={key.replace("_", " "): _shown(value) for key, value in (of_step | unlike).items()},
        by_name=_by_name(of_names, step.counts),
        counts={of: _bars(dict(islice(counts.items(), MOST_SHOWN))) for of, counts in alike.items()},
        more_counts=sum(len(counts) - MOST_SHOWN for counts in alike.values() if len(counts) > MOST_SHOWN),
        rules=[(rule, 100 * rule.documents / most, [_sample(drop, kept) for drop in rule.samples]) for rule in shown],
        others=sum(rule.documents for rule in drops.ranked[MOST_SHOWN:]) + drops.others,
        matched=[] if alike else drops.most_matched(MOST_SHOWN),
    )


def _said(step: StepRecord, record: Record) -> str:
    """What it did to how much."""
    dropped = f"Dropped {step.dropped:,} of {_documents(step.documents_in)}" if step.dropped else "Dropped nothing"
    changed = f", changed {step.changed:,}" if step.changed else ""
    less = f": {units.size(step.lost)} less, {units.share(step.lost, record.bytes_in)} of all bytes"
    more = f": {units.size(-step.lost)} more"
    return f"{dropped}{changed}{less if step.lost > 0 else more if step.lost < 0 else ''}."


def _bars(values: Mapping[str, Shown]) -> list[Bar]:
    most = max((value for value, _ in values.values()), default=0) or 1
    return [Bar(name, shown, 100 * value / most) for name, (value, shown) in values.items()]


def _languages(record: Record) -> list[Bar]:
    """What came out, by language, the most bytes first; nothing where languages were not looked at."""
    if not any(record.languages):
        return []
    found = sorted(record.languages.items(), key=lambda entry: (-entry[1]["bytes"], entry[0]))[:MOST_LANGUAGES]
    return _bars(
        {
            name or "not told": (each["bytes"], f"{_documents(each['documents'])}, {units.size(each['bytes'])}")
            for name, each in found
        }
    )


def _facts(step: StepRecord) -> tuple[dict[str, Fact], dict[str, dict[str, Fact]]]:
    """Those of a step, and those that it has of each of several files: {"a.jsonl: items": 9} is of a.jsonl."""
    of_step, of_names = dict[str, Fact](), dict[str, dict[str, Fact]]()
    for key, value in step.facts.items():
        name, _, what = key.rpartition(": ")
        if name:
            of_names.setdefault(name, {})[what] = value
        else:
            of_step[key] = value
    return of_step, of_names


def _counts(counts: Mapping[str, int], told: Told) -> tuple[dict[str, dict[str, Shown]], dict[str, Fact]]:
    """Counts of one kind of thing, the highest first, by what they are of ({"lines: long": 9} is of lines); and others.

    Where the step says what its counts are of, all are of that.
    """
    alike, unlike = dict[str, dict[str, Shown]](), dict[str, Fact]()
    for kind, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        of, _, which = (told.counted, "", kind) if told.counted else kind.replace("_", " ").partition(": ")
        if which:
            alike.setdefault(of, {})[which] = count, f"{count:,}"
        else:
            unlike[kind] = count
    return alike, unlike


def _by_name(of_names: Mapping[str, Mapping[str, Fact]], counts: Mapping[str, int]) -> list[list[str]]:
    """A row for each name: its facts, and how many documents were counted for it."""
    columns = list(dict.fromkeys(what for facts in of_names.values() for what in facts))
    rows = [
        [name, *(_shown(facts[what]) if what in facts else units.DASH for what in columns), f"{counts.get(name, 0):,}"]
        for name, facts in of_names.items()
    ]
    return [["", *(what.replace("_", " ") for what in columns), "documents"], *rows] if rows else []


def _shown(fact: Fact) -> str:
    if isinstance(fact, float):
        return f"{fact:.4g}"
    return f"{fact:,}" if isinstance(fact, int) else fact


def _sample(drop: Drop, kept: Mapping[str, str]) -> Sample:
    text, like = drop.sample, kept.get(drop.matched, drop.sample)
    ours, theirs = _differing(_beginning(text), _beginning(like), cut=_is_cut(text) and _is_cut(like))
    ours, theirs = (each + " …" if _is_cut(whole) else each for each, whole in ((ours, text), (theirs, like)))
    return Sample(drop, ours) if like == text else Sample(drop, ours, theirs)


def _is_cut(text: str) -> bool:
    return len(text) >= SAMPLE


def _beginning(text: str) -> str:
    """Of a text that was cut off what is whole of it."""
    whole = re.sub(r"\s\S{0,39}$", "", text) if _is_cut(text) else text  # but for a word, in languages with spaces
    return visible(whole.rstrip())


def _differing(one: str, other: str, cut: bool) -> tuple[Markup, Markup]:
    """Both texts, with the words marked in which they differ. Where both are `cut`, one of them is shown further."""
    ours, theirs = WORD.findall(one), WORD.findall(other)
    found: tuple[list[str], list[str]] = [], []
    at = [0, 0]
    for block in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        before = ["".join(ours[at[0] : block.a]), "".join(theirs[at[1] : block.b])]
        is_further = cut and block.size == 0 and not all(before)
        for side, words, start in ((0, ours, block.a), (1, theirs, block.b)):
            if before[side]:
                found[side].append(Markup.escape(before[side]) if is_further else element("mark", before[side]))
            found[side].append(Markup.escape("".join(words[start : start + block.size])))
            at[side] = start + block.size
    return Markup("").join(found[0]), Markup("").join(found[1])
