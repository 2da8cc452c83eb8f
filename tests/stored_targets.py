"""Targets of a teacher, stored in a folder, without a run."""

from gemmule.teach.targets.parts import Parts
from gemmule.teach.targets.solving import sample, solve
from gemmule.teach.targets.store import TargetStore


def write_targets(
    folder,
    teacher,
    windows,
    *,
    bytes_per_token=30.0,
    temperature=1.0,
    seed=0,
    coding=None,
    kind="threshold",
    rest="bucket",
    positions=None,
):
    """`coding`: instead of one solved for the budget; `positions` share what the folder holds once."""
    if coding is None:
        examples = sample(teacher, windows, temperature=temperature)
        coding = solve(examples, kind, bytes_per_token, positions or len(windows.shards))
    folder.mkdir(exist_ok=True)
    parts = Parts(folder / "parts", windows, {})
    parts.prepare(coding, temperature, rest)
    parts.teach(teacher, parts.missing(), seed)
    parts.merge(folder)
    parts.remove()
    return TargetStore(folder)
