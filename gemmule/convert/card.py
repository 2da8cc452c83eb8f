"""The model card: the README.md of a model folder, which says what it is, how it was made, and from what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemmule.base.artifact import Artifact
from gemmule.model.config import Gemma2Config


def model_card(
    name: str, config: Gemma2Config, settings: Mapping[str, Any], inputs: Mapping[str, Artifact], cut: str = ""
) -> str:
    """Markdown with the metadata block that the Hugging Face hub reads. The same inputs give the same bytes.

    `cut` says what the model kept of the one that it starts from, where that is not all.
    """
    teacher = settings.get(f"models.{name}.learn_from", "none")
    taught = "trained on text alone" if teacher == "none" else f"distilled from `{teacher}` during pre-training"
    if cut:
        taught = f"cut from `{settings[f'models.{name}.start_from']}` ({cut}) and {taught}"
    rows = "\n".join(f"| `{key}` | `{value}` |" for key, value in settings.items() if value is not None)
    made_from = "\n".join(f"- {role}: {artifact.manifest.kind} `{artifact.hash}`" for role, artifact in inputs.items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [gemma2, gemmule, distillation]
---

# {name}

A Gemma 2 language model of {config.parameters:,} parameters ({config.embedding_parameters:,} of them the embedding),
{taught} with gemmule.

    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(PATH)
    tokenizer = AutoTokenizer.from_pretrained(PATH)

For llama.cpp and Ollama: `gemmule export PATH {name}.gguf --format gguf`. llama.cpp's own converter refuses tokenizers
that it does not know, as this one.

Every text must start with `<bos>`, as the tokenizer does by default. The model continues text; it was not tuned to
follow instructions, it has learned whatever its text holds, and it states falsehoods with ease.

## Made from

{made_from}

`gemmule inspect` on this folder shows the whole ancestry and verifies every file.

## Settings

| key | value |
|---|---|
{rows}
"""


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
