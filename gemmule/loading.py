"""The models of a run, loaded: what a student learns from, and what is evaluated.

Where a model's weights lie and of which kind it is stands in its step's folder; one whose tokens are not the run's
answers in the run's all the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from gemmule.convert.folder import find_source
from gemmule.data.loader import Windows
from gemmule.data.shards import TokenShards
from gemmule.distill import huggingface
from gemmule.distill.alm import ByteAligned
from gemmule.distill.by_bytes import ByBytes
from gemmule.distill.served import ServedTeacher
from gemmule.distill.teachers import Ensemble, Teacher, load_teacher
from gemmule.distill.vocabulary import restrict
from gemmule.model import weights
from gemmule.plan import Plan, Step
from gemmule.tokenizer.load import load_tokenizer

LOOKED_AT = 1_000_000  # tokens of the text, in the seed's order, to see which tokens stand for which


def read_windows(tokens: Step, words: Step, plan: Plan, skip_damaged: bool = False) -> Windows:
    vocabulary = load_tokenizer(words.path)
    return Windows(
        TokenShards(tokens.path),
        plan.recipe.data.sequence_length,
        vocabulary.bos_id,
        vocabulary.pad_id,
        plan.recipe.seed,
        separate_documents=plan.recipe.data.separate_documents,
        skip_damaged=skip_damaged,
    )


def record_of(step: Step) -> dict[str, Any]:
    """Where a model's weights lie and of which kind it is."""
    if step.kind != "outside":
        return {"source": str(step.path), "kind": "gemma2"}
    record: dict[str, Any] = json.loads((step.path / "source.json").read_text(encoding="utf-8"))
    return {"kind": "gemma2"} | record  # which it was before there were others


def weights_of(step: Step) -> Path:
    """The folder with a Gemma 2's weights: its own, the outside one that the step records, or what was imported."""
    imported = step.path / "model"
    return imported if step.kind == "outside" and imported.is_dir() else weights.find_folder(record_of(step)["source"])


def top_k(step: Step, plan: Plan) -> int | None:
    assert step.model is not None
    return plan.recipe.models[step.model].top_k


def load_model(step: Step, plan: Plan, device: torch.device) -> Teacher:
    """A model of this run or from outside, to be asked what it expects."""
    teacher = _in_its_own_tokens(step, plan, device)
    if step.settings.get("vocabulary") == "by bytes":
        by_bytes = ByBytes(teacher, load_tokenizer(step.path / "tokenizer"), load_tokenizer(plan.tokenizer.path))
        windows = read_windows(plan.tokens["train"], plan.tokenizer, plan)
        looked_at = range(min(len(windows), LOOKED_AT // windows.sequence_length))
        by_bytes.look_at(windows.batch(number, 1).inputs[0].tolist() for number in looked_at)
        return by_bytes
    return teacher


def _in_its_own_tokens(step: Step, plan: Plan, device: torch.device) -> Teacher:
    record = record_of(step)
    if record["kind"] == "gemma2":
        return restrict(load_teacher(weights_of(step), device), step.path)
    if record["kind"] == "served":
        own = step.path / "tokenizer"
        words = load_tokenizer(own if own.is_dir() else plan.tokenizer.path)
        served = ServedTeacher(record["source"], words.vocabulary_size, device, top_k(step, plan))
        return restrict(served, step.path)
    source = record["source"]
    return restrict(huggingface.load(Path(source) if Path(source).exists() else find_source(source), device), step.path)


def load_teachers(step: Step, plan: Plan, device: torch.device) -> Teacher:
    """The teacher that a step's model learns from or is held against; an ensemble, if there are several."""
    assert step.model is not None
    shares = plan.teachers_of(step.model)
    members = [(share, load_model(plan.model_step(name), plan, device)) for name, share in shares.items()]
    return members[0][1] if len(members) == 1 else Ensemble(members)


def load_aligned(step: Step, plan: Plan, device: torch.device) -> ByteAligned:
    """The teacher of a step's model, which has a tokenizer of its own."""
    teacher = load_teachers(step, plan, device)
    theirs = load_tokenizer(step.inputs["teacher"].path / "tokenizer")
    return ByteAligned(teacher, theirs, load_tokenizer(step.inputs["tokenizer"].path))
