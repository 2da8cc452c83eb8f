"""The models of a run, loaded: what a student learns from, and what is evaluated.

Where a model's weights lie and of which kind it is stands in its step's folder; one whose tokens are not the run's
answers in the run's all the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import say
from gemmule.convert.folder import find_source
from gemmule.model import weights
from gemmule.plan.plan import Plan, Step, digest, model_files
from gemmule.teach.teachers import huggingface
from gemmule.teach.teachers.alm import ByteAligned
from gemmule.teach.teachers.by_bytes import ByBytes
from gemmule.teach.teachers.served import ServedTeacher
from gemmule.teach.teachers.teachers import Ensemble, Teacher, load_teacher
from gemmule.teach.teachers.trial import try_out
from gemmule.teach.teachers.vocabulary import restrict
from gemmule.tokenize.shards import TokenShards
from gemmule.tokenize.tokenizer import load_tokenizer
from gemmule.tokenize.windows import Windows

_tried: set[tuple[str, Path]] = set()  # teachers, and the texts on which this process has tried them
_verified: dict[str, Any] = {}  # fingerprints of outside models' files that this process has hashed itself
LOOKED_AT = 1_000_000  # tokens of the text, in the seed's order, to see which tokens stand for which


def read_windows(tokens: Step, tokenizer: Step, plan: Plan, skip_damaged: bool = False) -> Windows:
    vocabulary = load_tokenizer(tokenizer.path)
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


def folder_of(step: Step) -> Path:
    """The folder with a Gemma 2's weights: its own, the outside one, or what was imported; not verified."""
    imported = step.path / "model"
    if step.kind != "outside" or imported.is_dir():
        return imported if step.kind == "outside" else step.path
    assert step.source is not None
    return weights.find_folder(step.source)


def weights_of(step: Step) -> Path:
    """`folder_of`, to be loaded from. Raises RequestError for an outside one that is not what the run recorded."""
    folder = folder_of(step)
    if step.kind == "outside" and folder != step.path / "model":
        _verify(step, folder)
    return folder


def _verify(step: Step, place: Path) -> None:
    """Raises RequestError if the files of an outside model are not those that the run was begun with.

    The plan's own look at them goes by size and time, and may have been hours ago.
    """
    (key,) = [key for key in step.artifact.settings if key.endswith((".from", ".start_from"))]
    record = record_of(step)
    recorded = record.get("files") if isinstance(step.source, str) else step.artifact.settings[key]
    found = digest(model_files(place), _verified)
    if recorded not in (None, found):
        raise RequestError(
            f"{key}: {place} holds another model ({found}) than this run was begun with: {record['source']} "
            f"({recorded}). Put that back, or run elsewhere with --out"
        )


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
        assert step.source is not None
        own = step.path / "tokenizer"
        tokenizer = load_tokenizer(own if own.is_dir() else plan.tokenizer.path)
        served = ServedTeacher(str(step.source), tokenizer.vocabulary_size, device, top_k(step, plan))
        if served.name != record.get("model", served.name):
            raise RequestError(
                f"models.{step.model}.from = {str(step.source)!r}: serves {served.name!r} now, and served "
                f"{record['model']!r} when this run was begun"
            )
        return restrict(served, step.path)
    place = step.source if isinstance(step.source, Path) else find_source(str(step.source))
    _verify(step, place)
    return restrict(huggingface.load(place, device), step.path)


def load_teachers(step: Step, plan: Plan, device: torch.device) -> Teacher:
    """The teacher that a step's model learns from or is held against; an ensemble, if there are several."""
    assert step.model is not None
    shares = plan.teachers_of(step.model)
    members = [(share, load_model(plan.model_step(name), plan, device)) for name, share in shares.items()]
    return members[0][1] if len(members) == 1 else Ensemble(members)


def load_tried_teachers(step: Step, plan: Plan, device: torch.device) -> Teacher:
    """`load_teachers`, those from outside tried on the text that they are to teach."""
    teacher = load_teachers(step, plan, device)
    assert step.model is not None
    members = [member for _, member in teacher.members] if isinstance(teacher, Ensemble) else [teacher]
    for name, member in zip(plan.teachers_of(step.model), members, strict=True):
        _try_out(name, member, step, plan)
    return teacher


def load_aligned(step: Step, plan: Plan, device: torch.device) -> ByteAligned:
    """The teacher of a step's model, which has a tokenizer of its own; tried on the text."""
    assert step.model is not None
    teacher = load_teachers(step, plan, device)
    theirs = load_tokenizer(step.inputs["teacher"].path / "tokenizer")
    aligned = ByteAligned(teacher, theirs, load_tokenizer(step.inputs["tokenizer"].path))
    (name,) = plan.teachers_of(step.model)
    _try_out(name, aligned, step, plan)
    return aligned


def _try_out(name: str, teacher: Teacher | ByteAligned, step: Step, plan: Plan) -> None:
    """Raises WorkError for an outside teacher that predicts the text of a step worse than its tokens' frequencies do.

    Once a process for each text.
    """
    text = step.inputs["tokens"]
    if plan.model_step(name).kind != "outside" or (name, text.path) in _tried:
        return
    found = try_out(teacher, read_windows(text, step.inputs["tokenizer"], plan))
    if not found.windows:
        return
    what = (
        f"models.{name}: {found.teacher:.2f} nats a token on {found.windows} windows of the text, where a unigram "
        f"(the tokens' frequencies) has {found.unigram:.2f}"
    )
    if found.failed and plan.recipe.models[name].worse_than_unigram == "stop":
        raise WorkError(
            f"{what}: it has nothing to teach. Does it have another tokenizer, lack its <bos>, or is its file "
            f'damaged? To use it anyway: models.{name}.worse_than_unigram = "allow"'
        )
    say(f"{what}; training continues with it" if found.failed else what)
    _tried.add((name, text.path))
