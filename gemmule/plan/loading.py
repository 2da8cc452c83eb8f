"""Teachers, loaded: one or an ensemble, tried on the text that they are to teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from gemmule.plan.steps.any_model import AnyModel
from gemmule.plan.steps.tokens import TokensStep
from gemmule.teach.teachers.alm import ByteAligned
from gemmule.teach.teachers.teacher import Ensemble, Teacher
from gemmule.tokenize.tokenizer import load_tokenizer


def load_teachers(teachers: Mapping[AnyModel, float], device: torch.device) -> Teacher:
    """A teacher; an ensemble, if there are several."""
    return joined([(share, teacher.load(device)) for teacher, share in teachers.items()])


def joined(members: Sequence[tuple[float, Teacher]]) -> Teacher:
    """Loaded teachers with their shares as one: itself, or an ensemble."""
    return members[0][1] if len(members) == 1 else Ensemble(members)


def load_tried_teachers(teachers: Mapping[AnyModel, float], text: TokensStep, device: torch.device) -> Teacher:
    """`load_teachers`, those from outside tried on the text."""
    loaded = load_teachers(teachers, device)
    for teacher, (_, member) in zip(teachers, loaded.members, strict=True):
        teacher.try_out(member, text)
    return loaded


def load_aligned(teachers: Mapping[AnyModel, float], text: TokensStep, device: torch.device) -> ByteAligned:
    """The teacher of a model that learns by alm, which has a tokenizer of its own; tried on the text."""
    (teacher,) = teachers
    loaded = load_teachers(teachers, device)
    aligned = ByteAligned(loaded, load_tokenizer(teacher.tokenizer_folder), text.tokenizer.load())
    teacher.try_out(aligned, text)
    return aligned
