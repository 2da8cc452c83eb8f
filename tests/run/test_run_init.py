"""`gemmule init`: the recipe that it writes parses, plans, reads the right text, and lies where it may."""

from __future__ import annotations

import json
import random
import tomllib

import pytest
from served_model import FakeServer

from gemmule import recipe as recipes
from gemmule.estimate import measuring
from gemmule.model.config import Gemma2Config
from gemmule.model.transformer import Gemma2
from gemmule.plan.plan import Plan

WORDS = ["king", "queen", "fool", "said", "went", "saw", "loved", "and", "or", "not", "castle", "river", "night", "day"]


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS", 0.2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    return tmp_path


def lines(seed: int, count: int) -> list[str]:
    """Of words that are made up of others, for a tokenizer of 512 to have enough to learn."""
    generator = random.Random(seed)
    return [" ".join("".join(generator.choices(WORDS, k=2)) for _ in range(8)) for _ in range(count)]


def write_text(folder, name="a.txt", count=1200):
    (folder / "texts" / name).write_text("\n\n".join(lines(len(name), count)))


def test_a_recipe_that_parses_plans_and_tells_what_it_will_take(run, folder, capsys):
    write_text(folder)
    assert run("init", "texts", "--out", "mine.toml") == 0
    text = (folder / "mine.toml").read_text()
    recipe = recipes.load(folder / "mine.toml")
    assert recipe.name == "texts"
    assert recipe.data.sources == ["texts"]
    assert recipe.models["control"].like == "student"
    assert recipe.models["student"].teachers == {"teacher": 1.0}
    Plan(tomllib.loads(text), folder / "mine.toml")
    assert text.startswith("# Written by gemmule init for ")
    for word in ("It will take", "gemmule run mine.toml", "of memory", "the text "):
        assert word.lower() in text.lower(), word
    assert max(map(len, text.splitlines())) <= 130
    assert not (folder / "runs").exists()


def test_nothing_is_overwritten_and_a_wrong_place_is_named_before_any_work(run, folder, capsys):
    write_text(folder)
    (folder / "recipe.toml").write_text("mine")
    assert run("init", "texts") == 2
    assert "recipe.toml: exists already" in capsys.readouterr().err
    assert (folder / "recipe.toml").read_text() == "mine"
    assert run("init", "texts", "--out", "nowhere/recipe.toml") == 2
    assert "nowhere/recipe.toml: can't be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["absent.txt"], "absent.txt: no such file"),
        (["texts"], "a folder without a file to read"),
        (["small.txt"], "50 kB are needed"),
        (["empty.txt"], "an empty file"),
        (["long.txt", "--size", "5m"], "--size 5m: must be a whole number"),
        (["long.txt", "--teacher", "nobody"], "--teacher nobody: no such folder or file"),
        (["long.txt", "--teacher", "texts"], "config.json can't be read"),
    ],
)
def test_what_can_not_be_fitted_is_refused(run, folder, capsys, arguments, word):
    (folder / "small.txt").write_text("\n\n".join(lines(0, 700))[:20_000] * 2)
    (folder / "empty.txt").write_text("")
    (folder / "long.txt").write_text("\n\n".join(lines(0, 1200)))
    assert run("init", *arguments) == 2
    assert word in capsys.readouterr().err
    assert not (folder / "recipe.toml").exists()


def test_of_records_the_field_with_most_text_and_what_was_decided_is_said(run, folder, capsys):
    records = [{"id": str(n), "question": line[:40], "answer": line} for n, line in enumerate(lines(1, 1500))]
    (folder / "texts" / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert run("init", "texts/a.jsonl") == 0
    recipe = recipes.load(folder / "recipe.toml")
    assert recipe.data.field == "answer"
    assert "there are also: question, id" in (folder / "recipe.toml").read_text()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("text       texts/a.jsonl: 1 file (.jsonl), ")
    assert said[0].endswith("in 1,500 documents")
    assert "'answer' of each record holds the text (there are also: question, id)" in said[1]
    about = {line.split()[0]: line for line in said if not line.startswith(" ")}
    assert f"a vocabulary of {recipe.tokenizer.vocabulary_size:,}" in about["tokenizer"]
    assert list(about)[:9] == [
        "text", "field", "refine", "tokenizer", "tokens", "teacher", "student", "control", "in",
    ]  # fmt: skip
    assert said[-1] == "recipe.toml: written. Read it, then: gemmule run recipe.toml"
    assert run("init", "texts/a.jsonl", "--field", "answr", "--out", "b.toml") == 2
    assert "--field answr: no such field of text; did you mean 'answer'? there are: answer" in capsys.readouterr().err
    assert not (folder / "b.toml").exists()


def test_a_bad_record_and_an_empty_file_are_left_out_and_said(run, folder, capsys):
    records = [json.dumps({"text": line}) for line in lines(1, 1500)]
    (folder / "texts" / "a.jsonl").write_text("\n".join([*records[:10], '{"text": "cut', *records[10:]]))
    (folder / "texts" / "b.txt").touch()
    assert run("init", "texts") == 0
    said = "1 bad record, 1 empty file; the first: texts/a.jsonl, line 11: not JSON"
    assert f"left out   {said}" in capsys.readouterr().out
    assert f'bad_records = "skip"                     # {said}' in (folder / "recipe.toml").read_text()
    assert recipes.load(folder / "recipe.toml").data.bad_records == "skip"


def test_a_text_of_few_words_gets_the_vocabulary_that_it_supports(run, folder):
    (folder / "texts" / "numbers.txt").write_text("".join(f"row {number}\n" for number in range(10_000)))
    assert run("init", "texts") == 0
    recipe = recipes.load(folder / "recipe.toml")
    assert recipe.tokenizer.vocabulary_size == 264  # "row" takes two merges, and it is at the beginning of a line


def test_a_size_that_can_not_fit_is_refused_before_any_work(run, folder, capsys, monkeypatch):
    from gemmule.init import fit as whole

    write_text(folder)
    monkeypatch.setattr(whole, "free_memory", lambda: 500e6)
    for size, said in [
        ("300M", "--size 300M: training teacher, of "),
        ("300M", "450 MB are available here: about --size "),
        ("70B", "--size 70B: init makes students of "),
        ("1k", "--size 1k: init makes students of "),
    ]:
        assert run("init", "texts", "--size", size) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setattr(whole, "estimate", pytest.fail)
    assert run("init", "texts", "--size", "300M") == 2
    assert not (folder / "recipe.toml").exists()


def test_a_teacher_that_exists_gives_the_tokenizer(run, finished, folder):
    write_text(folder, count=1500)
    final = finished / "run" / "models" / "teacher" / "final"
    assert run("init", "texts", "--teacher", final, "--minutes", "1") == 0
    recipe = recipes.load(folder / "recipe.toml")
    assert recipe.tokenizer.from_ == "teacher"
    assert not recipe.tokenizer.prune
    assert recipe.data.sequence_length == 16  # it can read no more
    assert (folder / str(recipe.models["teacher"].from_)).resolve() == final.resolve()
    assert recipe.models["student"].distill.targets is not None  # it reads this text several times


def test_a_size_is_kept(run, folder):
    write_text(folder)
    assert run("init", "texts", "--size", "1M") == 0
    plan = Plan(tomllib.loads((folder / "recipe.toml").read_text()), folder / "recipe.toml")
    from gemmule.estimate.shapes import shapes

    student = shapes(plan, plan.recipe.tokenizer.vocabulary_size)["student"]
    assert student.parameters == pytest.approx(1e6, rel=0.3)


def test_a_server_is_asked_whose_tokenizer_it_has(run, folder, capsys):
    write_text(folder)
    model = Gemma2(Gemma2Config(300, layers=1, width=8, heads=2, kv_heads=1, head_dim=4, ffn_width=8, window=4))
    assert run("init", "texts", "--teacher", FakeServer(model).url) == 2
    assert "it serves 'tiny', whose tokenizer could not be loaded" in capsys.readouterr().err
