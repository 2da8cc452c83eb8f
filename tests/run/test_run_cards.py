"""The models' cards: written when a model is made, and anew when it is evaluated; kept where somebody changed them."""

from __future__ import annotations

import json
import shutil

from huggingface_hub import ModelCard

from gemmule.base import artifact
from gemmule.base.hashing import sha256_file
from gemmule.convert.card import is_own


def figures_of(run_folder, name="student"):
    return json.loads((run_folder / "models" / name / "evaluation" / "evaluation.json").read_text())


def results(card):
    return {(each.dataset_type, each.metric_type): each.metric_value for each in ModelCard(card).data.eval_results}


def test_the_card_has_the_evaluation(finished):
    out = finished / "run"
    card = (out / "models" / "student" / "final" / "README.md").read_text()
    figures = figures_of(out)
    assert is_own(card)
    assert results(card)["validation", "perplexity"] == figures["perplexity"]
    assert results(card)["validation", "acceptance"] == figures["acceptance"]
    low, high = (f"{end:.1f}" if end < 999.95 else f"{end:,.0f}" for end in figures["perplexity_interval"])
    assert f"({low} to {high})" in card
    assert "`00.txt`" in card
    assert "It was trained on 2.05k tokens (0.22 epochs)" in card
    assert "- teacher: model `" in card


def test_exports_take_it_along(run, finished, tmp_path):
    final = finished / "run" / "models" / "student" / "final"
    assert run("export", final, tmp_path / "hf", "--format", "hf") == 0
    assert (tmp_path / "hf" / "README.md").read_bytes() == (final / "README.md").read_bytes()
    assert run("inspect", tmp_path / "hf") == 0


def test_it_is_written_anew_unless_somebody_changed_it(run, copy):
    """An evaluation is made again: the card of its model follows it, as long as it is as gemmule wrote it."""
    out = copy / "run"
    cards = {name: out / "models" / name / "final" / "README.md" for name in ("student", "control", "cached")}
    before = cards["student"].read_bytes()
    cards["student"].unlink()
    cards["control"].write_text("my own words")
    manifest = cards["cached"].with_name("manifest.json")  # as one of before cards were no part of an artifact
    fields = json.loads(manifest.read_text())
    del fields["checksum"]
    entry = {"sha256": sha256_file(cards["cached"]), "size": cards["cached"].stat().st_size}
    was = cards["cached"].read_bytes()
    hash_before = artifact.read(manifest.parent).hash
    manifest.write_text(json.dumps(fields | {"files": {**fields["files"], "README.md": entry}}))
    assert artifact.read(manifest.parent).hash != hash_before
    shutil.rmtree(out / "models" / "cached" / "evaluation")
    shutil.rmtree(out / "models" / "student" / "evaluation")
    (out / "report.html").unlink()
    assert run("run", copy / "tiny.toml", "--out", out) == 0
    assert cards["student"].read_bytes() == before
    assert cards["control"].read_text() == "my own words"
    assert cards["cached"].read_bytes() == was
    assert run("inspect", out / "models" / "cached" / "final") == 0


def test_a_teacher_from_outside_is_named_without_its_path(run, finished, text_folder):
    teacher = text_folder.parent / "acme-2b"
    shutil.copytree(finished / "run" / "models" / "teacher" / "final", teacher)
    (teacher / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    recipe = text_folder.parent / "outside.toml"
    recipe.write_text(f"""
name = "outside"
[data]
sources = ["texts"]
sequence_length = 16
validation_fraction = 0.2
[tokenizer]
from = "{teacher}"
[models.big]
from = "{teacher}"
[models.small]
architecture = {{ layers = 2, width = 16 }}
learn_from = "big"
train = {{ tokens = 512, batch_tokens = 256 }}
[evaluate]
sample_tokens = 5
[machine]
device = "cpu"
compile = false
""")
    out = text_folder.parent / "run"
    assert run("run", recipe, "--out", out) == 0
    card = (out / "models" / "small" / "final" / "README.md").read_text()
    assert "`big` is `acme-2b`, whose licence is apache-2.0." in card
    assert ModelCard(card).data.license == "apache-2.0"
    assert str(text_folder.parent) not in card
