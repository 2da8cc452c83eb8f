"""The models of a run, loaded: what a student learns from, and what is evaluated.

Where a model's weights lie and of which kind it is stands in its step's folder; one whose tokens are not the run's
answers in the run's all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gemmule.base.errors import RequestError, WorkError
from gemmule.base.progress import say
from gemmule.plan.origins import digest, model_files
from gemmule.plan.steps.model import AnyModel
from gemmule.plan.steps.outside import OutsideStep
from gemmule.plan.steps.tokens import TokensStep
from gemmule.teach.teachers.alm import ByteAligned
from gemmule.teach.teachers.by_bytes import ByBytes
from gemmule.teach.teachers.kinds import IMPORTED, Source, named, place_of
from gemmule.teach.teachers.teacher import Ensemble, LiveTeacher, Teacher
from gemmule.teach.teachers.trial import try_out
from gemmule.teach.teachers.vocabulary import restrict
from gemmule.tokenize.tokenizer import load_tokenizer

_tried: set[tuple[str, Path]] = set()  # teachers, and the texts on which this process has tried them
_verified: dict[str, Any] = {}  # fingerprints of outside models' files that this process has hashed itself
LOOKED_AT = 1_000_000  # tokens of the text, in the seed's order, to see which tokens stand for which


def place_of_weights(step: OutsideStep) -> Source:
    """Where a model from outside lies, or what was imported of it; not verified."""
    imported = step.path / IMPORTED
    return imported if imported.is_dir() else place_of(step.origin.place)


def verified(step: OutsideStep) -> Source:
    """`place_of_weights`, to be loaded from. Raises RequestError for one that is not what the run recorded."""
    place = place_of_weights(step)
    if isinstance(place, Path) and place != step.path / IMPORTED:
        _verify(step, place)
    return place


def _verify(step: OutsideStep, place: Path) -> None:
    """Raises RequestError if the files of an outside model are not those that the run was begun with.

    The plan's own look at them goes by size and time, and may have been hours ago.
    """
    record = step.record()
    recorded = record.files if isinstance(step.origin.place, str) else step.origin.identity
    found = digest(model_files(place, named(record.kind).files), _verified)
    if recorded not in (None, found):
        raise RequestError(
            f"{step.key}: {place} holds another model ({found}) than this run was begun with: {record.source} "
            f"({recorded}). Put that back, or run elsewhere with --out"
        )


def load_outside(step: OutsideStep, device: torch.device) -> Teacher:
    """A model from outside, to be asked what it expects."""
    record, read = step.record(), step.tokenizer_folder
    kind, place = named(record.kind), verified(step)
    whole = kind.load(place, device, record=record, key=step.key, section=step.model, tokenizer=read)
    teacher = restrict(whole, step.path)
    if step.answers_by_bytes:
        by_bytes = ByBytes(teacher, load_tokenizer(read), step.tokenizer.load())
        windows = step.text.windows()
        looked_at = range(min(len(windows), LOOKED_AT // windows.sequence_length))
        by_bytes.look_at(windows.batch(number, 1).inputs[0].tolist() for number in looked_at)
        return by_bytes
    return teacher


def load_teachers(teachers: Mapping[AnyModel, float], device: torch.device) -> Teacher:
    """A teacher; an ensemble, if there are several."""
    members = [(share, teacher.load(device)) for teacher, share in teachers.items()]
    return members[0][1] if len(members) == 1 else Ensemble(members)


def load_tried_teachers(teachers: Mapping[AnyModel, float], text: TokensStep, device: torch.device) -> Teacher:
    """`load_teachers`, those from outside tried on the text that they are to teach."""
    loaded = load_teachers(teachers, device)
    for teacher, (_, member) in zip(teachers, loaded.members, strict=True):
        _try_out(teacher, member, text)
    return loaded


def load_aligned(teachers: Mapping[AnyModel, float], text: TokensStep, device: torch.device) -> ByteAligned:
    """The teacher of a model that learns by alm, which has a tokenizer of its own; tried on the text."""
    (teacher,) = teachers
    loaded = load_teachers(teachers, device)
    aligned = ByteAligned(loaded, load_tokenizer(teacher.tokenizer_folder), text.tokenizer.load())
    _try_out(teacher, aligned, text)
    return aligned


def _try_out(step: AnyModel, teacher: LiveTeacher, text: TokensStep) -> None:
    """Raises WorkError for an outside teacher that predicts a text worse than its tokens' frequencies do.

    Once a process for each text.
    """
    if not isinstance(step, OutsideStep) or (step.name, text.path) in _tried:
        return
    found = try_out(teacher, text.windows())
    if not found.windows:
        return
    what = (
        f"models.{step.name}: {found.teacher:.2f} nats a token on {found.windows} windows of the text, where a unigram "
        f"(the tokens' frequencies) has {found.unigram:.2f}"
    )
    if found.failed and step.model.worse_than_unigram == "stop":
        raise WorkError(
            f"{what}: it has nothing to teach. Does it have another tokenizer, lack its <bos>, or is its file "
            f'damaged? To use it anyway: models.{step.name}.worse_than_unigram = "allow"'
        )
    say(f"{what}; training continues with it" if found.failed else what)
    _tried.add((step.name, text.path))
