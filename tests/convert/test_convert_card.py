"""The model card as the hub's own library reads it, and what it says of licences."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from gemmule.base.artifact import Manifest
from gemmule.convert.card import (
    Evaluated,
    Metric,
    Outside,
    TrainingText,
    is_own,
    license_of,
    model_card,
    outside,
    sealed,
)
from gemmule.model.config import Gemma2Config

CONFIG = Gemma2Config(
    vocabulary_size=300, layers=2, width=32, heads=2, kv_heads=1, head_dim=16, ffn_width=64, window=8, context_length=64
)
TEXT = TrainingText(["plays.txt", "a`b|c.jsonl"], documents=412, held_out=20, tokens=1_000_000, read=2_500_000)
HUB_GEMMA = Outside("big", "google/gemma-3-270m", is_on_hub=True)
EVALUATED = Evaluated(
    [
        Metric("perplexity", "Perplexity", 60.25, "60.3 (58.1 to 62.5)"),
        Metric("ece", "Calibration error", 0.012, "1.2%"),
    ],
    "412 documents",
    {"gemmule:passkey": {"accuracy": 0.375}, "arc": {"acc,none": 0.25}, "words": {}},
)


def card(sources=(), evaluated=None, teacher="big") -> str:
    settings = {"seed": 0, "models.student.learn_from": teacher, "data.left": None}
    manifest = Manifest("model", 1, settings, {"tokens": "12ab"}, {}, {"12ab": {"kind": "tokens"}})
    return model_card("student", CONFIG, manifest, TEXT, sources=sources, evaluated=evaluated)


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_the_hubs_library_reads_its_metadata():
    read = ModelCard(card([HUB_GEMMA], EVALUATED))
    assert (read.data.library_name, read.data.pipeline_tag) == ("transformers", "text-generation")
    assert read.data.tags == ["gemma2", "gemmule", "distillation"]
    assert read.data.base_model == ["google/gemma-3-270m"]
    assert read.data.license == "gemma"
    assert read.data.model_name == "student"
    found = {(each.dataset_type, each.metric_type): each.metric_value for each in read.data.eval_results}
    assert found == {
        ("validation", "perplexity"): 60.25,
        ("validation", "ece"): 0.012,
        ("gemmule:passkey", "accuracy"): 0.375,
        ("arc", "acc,none"): 0.25,
    }
    assert ModelCard(str(read)).data.to_dict() == read.data.to_dict()


def test_before_its_evaluation_it_has_none():
    read = ModelCard(card())
    assert read.data.eval_results is None
    assert read.data.base_model is None
    assert read.data.license is None
    assert "## Evaluation" not in read.text
    assert "Teacher and licence" not in read.text


def test_it_says_what_it_was_made_from_and_what_it_is_worth():
    text = words(card([HUB_GEMMA], EVALUATED))
    assert "`plays.txt`, `a b c.jsonl`: 412 documents of 1M tokens, and 20 held out to validate on." in text
    assert "It was trained on 2.5M tokens (2.5 epochs)." in text
    assert "On the validation text, with 95% intervals over 412 documents:" in text
    assert "| Perplexity | 60.3 (58.1 to 62.5) |" in text
    assert "| `gemmule:passkey` | `accuracy` | 0.375 |" in text
    assert "reads up to 64 tokens" in text
    assert "- tokens: tokens `12ab`" in text
    assert "| `seed` | `0` |" in text
    assert "data.left" not in text


def test_gemmas_terms_go_along():
    text = words(card([HUB_GEMMA]))
    assert "`big` is `google/gemma-3-270m`, whose licence is not known here." in text
    assert "ai.google.dev/gemma/terms" in text
    free = Outside("big", "google/gemma-9-free", is_on_hub=True, license="apache-2.0")
    assert "ai.google.dev/gemma/terms" not in card([free])
    assert ModelCard(card([free])).data.license == "apache-2.0"
    other = Outside("small", "someone", license="mit")
    assert ModelCard(card([free, other])).data.license is None  # which holds is not for a program to say
    assert "`small` is `someone`, whose licence is mit." in card([free, other])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("README.md", "---\nlibrary_name: x\nlicense: apache-2.0\n---\nlicense: mit\n", "apache-2.0"),
        ("README.md", "---\nlicense: 'gemma'  \n---\n", "gemma"),
        ("README.md", "---\nlicense: other\nlicense_name: acme-1\n---\n", "acme-1"),
        ("README.md", "license: mit\n", None),
        ("LICENSE.txt", "\n  Apache License\nVersion 2.0\n", "Apache License"),
    ],
)
def test_a_folders_licence(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    assert license_of(tmp_path) == expected


def test_a_card_tells_no_paths_and_no_addresses(tmp_path):
    folder = tmp_path / "runs" / "secret-client" / "final"
    folder.mkdir(parents=True)
    assert outside("big", folder) == Outside("big", "secret-client")
    assert outside("big", "https://user:key@host/v1") == Outside("big", "a served model")
    assert outside("big", Path("/models/gemma-2b.gguf")).source == "gemma-2b.gguf"
    assert "`big` is a served model, whose licence is not known here." in card([outside("big", "https://host/v1")])


def test_a_changed_card_is_not_its_own():
    written = sealed(card())
    assert is_own(written)
    assert is_own(sealed(card([HUB_GEMMA], EVALUATED)))
    assert not is_own(written.replace("falsehoods", "truths"))
    assert not is_own(written + "more\n")
    assert not is_own(card())
    assert ModelCard(written).data.tags == ["gemma2", "gemmule", "distillation"]
