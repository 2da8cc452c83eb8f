"""`gemmule estimate` beside the run that follows, and what it says of what can't fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from gemmule import recipe as recipes
from gemmule.base import units
from gemmule.estimate import advice, machine, measuring, text, whole
from gemmule.estimate.shapes import shapes
from gemmule.plan.plan import Plan
from gemmule.train import metrics


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS", 0.5)
    monkeypatch.setattr(measuring, "resident", lambda: 500_000_000)  # that of the tests grows from one to the next


@pytest.fixture
def plan(finished):
    def plan(*overrides: str) -> Plan:
        return Plan(recipes.read(finished / "tiny.toml", overrides), finished / "tiny.toml", finished / "elsewhere")

    return plan


def folder_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_counted_is_what_the_run_made(run, finished, capsys):
    assert run("estimate", finished / "tiny.toml", "--out", finished / "elsewhere", "--on", "H100", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert not (finished / "elsewhere").exists()
    summary = json.loads((finished / "run" / "summary.json").read_text())["models"]
    for model in said["models"]:
        made, training = summary[model["name"]], model["training"]
        assert model["shape"]["parameters"] == made["parameters"]
        assert model["shape"]["embedding_parameters"] == made["embedding_parameters"]
        folder = finished / "run" / "models" / model["name"]
        records = [record for record in metrics.read(folder) if "loss" in record]
        assert training["steps"] == len(records)
        # the last window of a text may be short
        assert training["tokens"] == pytest.approx(made["train_tokens"], rel=0.02)
        assert training["flops"] == pytest.approx(made["train_flops"], rel=0.02)
        if model["name"] == "student":
            assert training["teacher_flops"] == pytest.approx(made["teacher_flops"], rel=0.02)
        final = folder / "final" / "model.safetensors"
        assert 4 * made["parameters"] == pytest.approx(final.stat().st_size, rel=0.2)
    (taught,) = said["teaching"]
    stored = folder_bytes(finished / "run" / "targets" / "teacher")
    assert taught["tokens"] * taught["bytes_per_token"] == pytest.approx(stored, rel=0.15)
    assert said["fits"] is True
    assert said["on"]["H100 SXM"]["seconds"] == pytest.approx(said["flops"] / (0.4 * 989e12))
    assert said["seconds"] > said["training_seconds"] > 0


def test_a_finished_run_is_counted_where_it_lies(finished, plan):
    recipe = finished / "tiny.toml"
    there, elsewhere = text.look(Plan(recipes.read(recipe), recipe, finished / "run")), text.look(plan())
    assert there.seconds == 0.0 < elsewhere.seconds
    assert (there.train_tokens, there.validation_tokens) == (elsewhere.train_tokens, elsewhere.validation_tokens)
    assert there.documents == elsewhere.documents


def test_bytes_and_documents_are_both_of_all_the_text(run, finished, capsys):
    size = folder_bytes(finished / "texts")
    count = len(list((finished / "texts").iterdir()))
    assert run("estimate", finished / "tiny.toml", "--out", finished / "elsewhere") == 0
    assert f"Text: {units.plain(units.size(size))} in {count} documents: " in capsys.readouterr().out


def test_the_page_says_it_in_words(run, finished, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("estimate", finished / "tiny.toml", "--out", finished / "elsewhere", "--on", "l4") == 0
    said = capsys.readouterr().out
    for word in ("teacher", "student", "cached", "control", "epochs", "moments", "tokens more", "On one L4", "free"):
        assert word in said, word


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere.toml"], "no such recipe"),
        (["tiny.toml", "--on", "h1000"], "did you mean 'h100'"),
        (["tiny.toml", "--set", "models.student.train.tokenss=1"], "did you mean tokens"),
    ],
)
def test_wrong_requests(run, finished, capsys, arguments, word):
    assert run("estimate", finished / arguments[0], *arguments[1:]) == 2
    assert word in capsys.readouterr().err


def test_advice_on_memory_is_enough(plan, monkeypatch):
    large = [f"models.control.train.{key}=524288" for key in ("batch_tokens", "micro_batch_tokens")]
    first = whole.estimate(plan(*large))
    needed = {model.name: held.total for model, _, held in first.trained}
    assert max(needed, key=needed.__getitem__) == "control"
    free = round((first.peak_memory - 0.5 * needed["control"]) / machine.SPARE)
    monkeypatch.setattr(whole, "free_memory", lambda: free)
    (warning,) = [line for line in advice.warnings(plan(*large), whole.estimate(plan(*large))) if "Memory" in line]
    key, value = re.findall(r"(models\.control\.train\.micro_batch_tokens) = ([0-9]+)", warning)[0]
    assert int(value) < 524288
    after = whole.estimate(plan(*large, f"{key}={value}"))
    assert after.peak_memory <= machine.SPARE * free < first.peak_memory


def test_advice_on_disk_is_enough(plan, monkeypatch):
    first = whole.estimate(plan("models.cached.distill.targets.bytes_per_token=100"))
    (taught,) = first.teaching
    monkeypatch.setattr(whole, "free_disk", lambda _: round((first.disk - 0.4 * taught.disk) / machine.SPARE))
    (warning,) = [line for line in advice.warnings(plan(), whole.estimate(
        plan("models.cached.distill.targets.bytes_per_token=100"))) if "Disk" in line]  # fmt: skip
    value = re.findall(r"bytes_per_token = ([0-9]+)", warning)[0]
    assert int(value) == 59 or int(value) == 60
    after = whole.estimate(plan(f"models.cached.distill.targets.bytes_per_token={value}"))
    assert after.disk <= machine.SPARE * after.free_disk


def test_text_that_is_read_too_often_is_said(plan):
    often = whole.estimate(plan("models.control.train.tokens=1M"))
    assert any("control trains for" in line for line in advice.warnings(plan(), often))


def test_a_model_is_timed_by_its_layers(plan):
    """Two and four layers that take 5 and 9 seconds: ten take 21."""
    known = shapes(plan(), 280)["teacher"]
    assert known is not None

    def seconds(config):
        return (1.0 + 2 * config.layers, 0.5)

    assert measuring._in_layers(replace(known.config, layers=10), False, seconds) == pytest.approx((21.0, 0.5))
    assert measuring._in_layers(replace(known.config, layers=10), True, seconds) == (21.0, 0.5)


OTHERS = {
    "a server": """
[models.far]
from = "http://localhost:1/v1"
[models.student]
architecture = { layers = 2, width = 16 }
learn_from = "far"
distill = { targets = { kind = "top-k", k = 20 } }
train = { tokens = 2048, batch_tokens = 256 }
""",
    "an ensemble from outside": """
[models.a]
from = "FINAL"
[models.b]
from = "FINAL"
[models.student]
architecture = { layers = 2, width = 16 }
learn_from = { a = 0.5, b = 0.5 }
distill = { loss = "jsd", next_token_weight = [0.5, 0.0] }
train = { tokens = 2048, batch_tokens = 256, optimizer = "muon", recompute_activations = true }
""",
    "a cut, and what goes on from it": """
[models.a]
from = "FINAL"
[models.cut]
start_from = "a"
architecture = { width = 16 }
learn_from = "a"
train = { tokens = 2048, batch_tokens = 256 }
[models.longer]
start_from = "FINAL"
train = { tokens = 2048, batch_tokens = 256 }
""",
    "another tokenizer": """
[models.a]
from = "FINAL"
[models.student]
architecture = { layers = 2, width = 16 }
learn_from = "a"
distill = { loss = "alm" }
train = { tokens = 65536, batch_tokens = 256 }
""",
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_kind_of_teacher_and_start(run, finished, tmp_path, name, capsys):
    final = finished / "run" / "models" / "teacher" / "final"
    head = (finished / "tiny.toml").read_text().partition("[models.teacher]")[0]
    head = head.replace('"texts"', f'"{finished / "texts"}"')
    tokenizer = "vocabulary_size = 300" if name == "another tokenizer" else f'from = "{final}"'
    text = head.replace("vocabulary_size = 280", tokenizer) + OTHERS[name].replace("FINAL", str(final))
    (tmp_path / "other.toml").write_text(text)
    assert run("estimate", tmp_path / "other.toml", "--out", tmp_path / "run") == 0
    capsys.readouterr()
    assert run("estimate", tmp_path / "other.toml", "--out", tmp_path / "run", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    models = {model["name"]: model for model in said["models"]}
    if name == "a server":
        assert models["far"]["shape"] is None
        assert said["teaching"][0]["seconds"] is None
        assert models["student"]["training"]["seconds"] > 0
    elif name == "an ensemble from outside":
        a, student = models["a"]["shape"], models["student"]["training"]
        assert student["teacher_flops"] == 2 * a["flops_per_token"] * student["tokens"]
    elif name == "another tokenizer":  # whose answers are asked for once
        assert models["student"]["training"]["teacher_flops"] == pytest.approx(
            models["a"]["shape"]["flops_per_token"] * said["text"]["train_tokens"]
        )
    else:
        assert models["longer"]["shape"] == models["a"]["shape"]
        assert models["cut"]["shape"]["width"] == 16
