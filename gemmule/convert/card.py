"""The model card: the README.md of a model folder, as the Hugging Face hub reads it.

It says what the model is, how and from what it was made, what it is worth, and what it is not for. The block at its top
is the hub's metadata (huggingface.co/docs/hub/model-cards), in JSON's form of YAML. A card tells of an artifact and is
no part of it (`artifact.CARD`): it is written anew once the model is evaluated, as long as nobody else changed it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemmule.base import hub
from gemmule.base.artifact import CARD, Manifest
from gemmule.base.errors import RequestError
from gemmule.base.progress import human
from gemmule.model.config import Gemma2Config

MOST_SOURCES = 20  # that are listed
GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
SEAL = "\n<!-- written by gemmule, {}: without this line, or changed, it stays as it is -->\n"
LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.-]*")  # of the hub


@dataclass(frozen=True)
class Outside:
    """A model from outside that this one learned from or started with, itself or through others of its recipe."""

    name: str  # in the recipe
    source: str  # a hub id, or what is last in a path; no address, as a card is public
    is_on_hub: bool = False
    license: str | None = None  # as its model card or LICENSE file names it

    @property
    def is_gemma(self) -> bool:
        """Whether Gemma's terms hold for it, as far as can be told."""
        return self.license == "gemma" or (self.license is None and "gemma" in self.source.lower())


@dataclass(frozen=True)
class TrainingText:
    """What a model was trained on."""

    sources: Sequence[str]  # names of files
    documents: int
    held_out: int  # documents, to validate on
    tokens: int  # that the text has
    read: int  # tokens, in training


@dataclass(frozen=True)
class Metric:
    name: str  # for programs: "perplexity"
    title: str
    value: float
    shown: str  # with its interval, where there is one


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found."""

    metrics: Sequence[Metric]
    over: str = ""  # what the intervals are over
    tasks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def outside(name: str, place: Path | str) -> Outside:
    """Of a folder or file, a hub id or an address; its licence as far as that lies here."""
    if isinstance(place, Path):
        inner = place.name in ("final", "model") and place.parent.name
        return Outside(name, inner or place.name, license=license_of(place if place.is_dir() else place.parent))
    if not hub.HUB_ID.fullmatch(place):
        return Outside(name, "a served model")
    found = None
    with suppress(RequestError):
        found = license_of(hub.find_folder(place, [CARD, "LICENSE*"], download=False))
    return Outside(name, place, is_on_hub=True, license=found)


def license_of(folder: Path) -> str | None:
    """The licence that a model folder's card names, or its LICENSE file's first line; None where neither does."""
    card = folder / CARD
    if card.is_file():
        lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines[:1] == ["---"] and "---" in lines[1:]:
            block = "\n".join(lines[1 : lines.index("---", 1)])
            named = dict(re.findall(r"(?m)^(license(?:_name)?):\s*[\"']?([^\"'#\n]+?)[\"']?\s*$", block))
            if (found := named.get("license")) is not None:
                return named.get("license_name", found) if found == "other" else found
    for file in sorted(folder.glob("LICENSE*")):
        if file.is_file():
            with file.open(encoding="utf-8", errors="replace") as text:
                return next((line.strip()[:80] for line in text if line.strip()), None)
    return None


def model_card(
    name: str,
    config: Gemma2Config,
    manifest: Manifest,
    text: TrainingText,
    *,
    cut: str = "",
    sources: Sequence[Outside] = (),
    evaluated: Evaluated | None = None,
) -> str:
    """Markdown with the metadata block that the Hugging Face hub reads. The same inputs give the same bytes.

    `cut` says what the model kept of the one that it starts from, where that is not all.
    """
    settings = manifest.settings
    teacher = settings.get(f"models.{name}.learn_from", "none")
    taught = "trained on text alone" if teacher == "none" else f"distilled from `{teacher}` during pre-training"
    if cut:
        taught = f"cut from `{settings[f'models.{name}.start_from']}` ({cut}) and {taught}"
    rows = "\n".join(f"| `{key}` | `{value}` |" for key, value in settings.items() if value is not None)
    made_from = "\n".join(
        f"- {role}: {manifest.ancestry[digest]['kind']} `{digest}`" for role, digest in manifest.inputs.items()
    )
    parts = [
        _metadata(name, teacher != "none", sources, evaluated),
        f"""# {name}

A Gemma 2 language model of {config.parameters:,} parameters ({config.embedding_parameters:,} of them the embedding),
{taught} with gemmule.

    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(PATH)
    tokenizer = AutoTokenizer.from_pretrained(PATH)

For llama.cpp and Ollama: `gemmule export PATH {name}.gguf --format gguf`. llama.cpp's own converter refuses tokenizers
that it does not know, as this one.
""",
        f"## Training data\n\n{_training_data(text)}\n",
        f"## Teacher and licence\n\n{_licences(sources)}\n" if sources else "",
        f"## Evaluation\n\n{_evaluation(evaluated)}\n" if evaluated and evaluated.metrics else "",
        f"""## Limits

Every text must start with `<bos>`, as the tokenizer does by default. The model reads up to {config.context_length:,}
tokens. It continues text; it was not tuned to follow instructions, it has learned whatever its text holds, bias and
errors included, and it states falsehoods with ease.
""",
        f"""## Made from

{made_from}

`gemmule inspect` on this folder shows the whole ancestry and verifies every file.

## Settings

| key | value |
|---|---|
{rows}
""",
    ]
    return "\n".join(part for part in parts if part)


def sealed(card: str) -> str:
    """A card with a last line by which `is_own` knows it."""
    return card + SEAL.format(_digest(card))


def is_own(card: str) -> bool:
    """Whether gemmule wrote this, and nobody changed it since."""
    text, mark, rest = card.rpartition(SEAL.partition("{}")[0])
    return bool(mark) and card == sealed(text) and bool(rest)


def _digest(card: str) -> str:
    return hashlib.sha256(card.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _metadata(name: str, is_taught: bool, sources: Sequence[Outside], evaluated: Evaluated | None) -> str:
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["gemma2", "gemmule", *(["distillation"] if is_taught else [])],
    }
    if on_hub := [each.source for each in sources if each.is_on_hub]:
        fields["base_model"] = list(dict.fromkeys(on_hub))
    licences = {"gemma" if each.is_gemma else each.license for each in sources}
    if len(licences) == 1 and (licence := licences.pop()) is not None and LICENSE_ID.fullmatch(licence):
        fields["license"] = licence
    if evaluated and evaluated.metrics:
        fields["model-index"] = [{"name": name, "results": _results(evaluated)}]
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())
    return "\n".join(["---", *lines, "---", ""])


def _results(evaluated: Evaluated) -> list[dict[str, Any]]:
    """The hub's `model-index`: a result for the validation text, and one for each task."""
    task = {"type": "text-generation", "name": "Text generation"}
    found = {
        ("validation", "validation text of its run"): {
            each.title: (each.name, each.value) for each in evaluated.metrics
        }
    } | {
        (name, name): {metric: (metric, value) for metric, value in values.items()}
        for name, values in evaluated.tasks.items()
        if values
    }
    return [
        {
            "task": task,
            "dataset": {"type": kind, "name": named},
            "metrics": [{"type": type_, "value": value, "name": title} for title, (type_, value) in metrics.items()],
        }
        for (kind, named), metrics in found.items()
    ]


def _training_data(text: TrainingText) -> str:
    names = ", ".join(map(_code, text.sources[:MOST_SOURCES]))
    more = len(text.sources) - MOST_SOURCES
    listed = f"{names}{f' and {more:,} more files' if more > 0 else ''}:\n" if names else ""
    return (
        f"{listed}{text.documents:,} documents of {human(text.tokens)} tokens, and {text.held_out:,} held out "
        f"to validate on.\nIt was trained on {human(text.read)} tokens ({text.read / max(1, text.tokens):.2g} epochs)."
    )


def _licences(sources: Sequence[Outside]) -> str:
    lines = []
    for each in sources:
        source = f"`{each.name}` is {each.source if each.source == 'a served model' else _code(each.source)}"
        lines.append(f"- {source}, whose licence is {each.license or 'not known here'}.")
    if any(each.is_gemma for each in sources):
        lines += [
            "",
            f"Gemma's terms of use ({GEMMA_TERMS}) hold for Gemma and for its model\n"
            "derivatives. They count among these a model that is trained on outputs of Gemma to perform like it, as\n"
            "in distillation: such a model may be passed on under these terms alone.",
        ]
    return "\n".join(lines)


def _evaluation(evaluated: Evaluated) -> str:
    lines = [f"On the validation text{f', with 95% intervals over {evaluated.over}' if evaluated.over else ''}:", ""]
    lines += ["| metric | value |", "|---|---:|", *(f"| {each.title} | {each.shown} |" for each in evaluated.metrics)]
    if any(evaluated.tasks.values()):
        lines += ["", "In tasks:", "", "| task | metric | value |", "|---|---|---:|"]
        for task, values in evaluated.tasks.items():
            lines += [f"| {_code(task)} | {_code(metric)} | {value:.4g} |" for metric, value in values.items()]
    return "\n".join(lines)


def _code(text: str) -> str:
    """A name between backticks, on one line of a table."""
    plain = re.sub(r"[`|\s]", " ", text)
    return f"`{plain}`"


def imported_card(name: str, config: Gemma2Config, source: str) -> str:
    """The card of a model that was made elsewhere and came without one."""
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [gemma2]
---

# {name}

A Gemma 2 language model of {config.parameters:,} parameters, made elsewhere and imported by gemmule from `{source}`.
"""
