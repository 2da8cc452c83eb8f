"""summary.json and report.html of a run, from what its steps have left: all of them, or those that are finished.

While a run is in progress nothing here imports torch: looking at it takes no time from it.
"""

from __future__ import annotations

import datetime
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from gemmule import recipe as recipes
from gemmule.base import artifact
from gemmule.base.run_folder import RECIPE
from gemmule.evaluate import table
from gemmule.evaluate.units import Ratio, ratio
from gemmule.model.config import TRAINING_PASSES
from gemmule.plan.plan import Plan, Training
from gemmule.plan.steps.model import ModelStep
from gemmule.refine.page import PAGE, Record
from gemmule.report import write_report
from gemmule.report.comparison import controls_of
from gemmule.report.contents import ModelReport, Progress, Refined, ReportData, Role
from gemmule.run import status
from gemmule.run.cards import write_cards
from gemmule.train import metrics, pace


def write_summary_and_report(plan: Plan) -> None:
    """summary.json, report.html and the models' cards of a run whose steps are all finished."""
    write_cards(plan)
    models = _models(plan)
    figures = {name: {**model.figures, **_trainings(model)} for name, model in models.items()}
    artifact.write_json(plan.out / "summary.json", {"models": figures})
    command = shlex.join(["gemmule", *sys.argv[1:]])
    _write(plan, models, datetime.date.today().isoformat(), command)


def _trainings(model: ModelReport) -> dict[str, Any]:
    return {"trainings": model.trainings} if model.trainings else {}


def write_report_so_far(plan: Plan) -> None:
    """report.html of a run that may go on meanwhile, or have stopped."""
    now = datetime.datetime.now().isoformat(" ", "minutes")
    found = status.read(plan.out)
    running = found is not None and found.state == "running"
    command = shlex.join(["gemmule", "run", str(plan.out / RECIPE)])
    _write(plan, _models(plan, running), now, command, running, _standing(found))


def _standing(found: status.Status | None) -> str:
    """How a run stands that stopped before its end; empty where it did not."""
    if found is None or found.state not in ("failed", "resume"):
        return ""
    when = datetime.datetime.fromisoformat(found.time).astimezone().isoformat(" ", "minutes")[:16]
    said = f": {found.message}" if found.message else ""
    resume = f". Resume with: {found.resume_with}" if found.resume_with else ""
    return f"{'Failed' if found.state == 'failed' else 'Interrupted'}, {when}{said}{resume}"


def _write(
    plan: Plan,
    models: dict[str, ModelReport],
    created: str,
    command: str,
    running: bool = False,
    standing: str = "",
) -> None:
    report = ReportData(
        name=plan.recipe.name,
        created=created,
        command=command,
        machine=_machine(plan) if all(step.path.exists() for step in plan.of(ModelStep)) else "",
        text=_text(plan),
        models=models,
        recipe=(plan.out / RECIPE).read_text(encoding="utf-8"),
        running=running,
        standing=standing,
        refined=_refined(plan),
    )
    write_report(report, plan.out / "report.html")


def _machine(plan: Plan) -> str:
    import torch

    from gemmule.base.device import choose_device

    device = choose_device(plan.recipe.machine.device)
    return f"{os.cpu_count()} CPU cores, {device.type}, torch {torch.__version__}"


def _models(plan: Plan, running: bool = False) -> dict[str, ModelReport]:
    models = {name: _model(name, plan, running) for name in plan.recipe.models}
    return {name: replace(report, paired=_paired(name, models, plan)) for name, report in models.items()}


def _model(name: str, plan: Plan, running: bool) -> ModelReport:
    model, step = plan.recipe.models[name], plan.models[name]
    first, count = plan.trainings[0], plan.recipe.trainings(name)
    evaluation, records = _evaluation(name, first), metrics.read(first.folder / "models" / name)
    steps = _steps(records)
    figures = _figures(name, first, steps, plan)
    trainings = _evaluated_trainings(name, plan.trainings[:count], plan) if count > 1 else []
    taught, held_against = bool(model.teachers), plan.recipe.held_against(name)
    teachers = {teacher for other in plan.recipe.models.values() for teacher in other.teachers}
    role: Role = "teacher" if name in teachers else "student" if taught else "control" if model.like else "model"
    made = step.path.exists()
    return ModelReport(
        role=role,
        progress=_progress(step, steps, running) if isinstance(step, ModelStep) and not made else None,
        learn_from=recipes.join_names(model.teachers) if taught else None,
        start_from=model.start_from,
        cut=step.describe_cut() if isinstance(step, ModelStep) and made else "",
        like=model.like,
        origin=model.from_,
        figures=figures,
        trainings=trainings,
        intervals={
            figure: interval for figure in table.evaluated() if (interval := evaluation.get(f"{figure}_interval"))
        },
        over=table.over(evaluation),
        by_position=evaluation.get("by_position", []),
        tasks=evaluation.get("tasks", {}),
        curve=[
            {"tokens": r["tokens"], "loss": r["validation_loss"]}
            for r in records
            if r.get("validation_loss") is not None
        ],
        objective=metrics.objective(model.distill, taught),
        training=[{"tokens": record["tokens"], "loss": record["loss"]} for record in steps],
        calibration=evaluation.get("calibration", []),
        against=next(iter(held_against)) if len(held_against) == 1 else None,
        agreement=evaluation.get("agreement_by_entropy", []),
        samples=evaluation.get("samples", []),
        settings=step.settings,
        lineage=[{"hash": key, **entry} for key, entry in step.artifact.manifest.ancestry.items()] if made else [],
        warnings=[
            *_warnings(plan, steps, figures["train_tokens_asked"] if made else None),
            *([f"{len(trainings)} of its {count} trainings are finished"] if len(trainings) < count > 1 else []),
        ],
    )


def _paired(name: str, models: dict[str, ModelReport], plan: Plan) -> dict[str, Ratio]:
    """A student against each of its controls, of the first training of both, as far as both are evaluated."""
    found = {}
    for control in controls_of(name, models):
        ours, theirs = (plan.trainings[0].evaluations[each].units for each in (name, control))
        if ours is not None and theirs is not None and (compared := ratio(ours, theirs, same_tokens=True)) is not None:
            found[control] = compared
    return found


def _evaluation(name: str, training: Training) -> dict[str, Any]:
    """What a model's evaluation found; empty while there is none."""
    step = training.evaluations.get(name)
    return step.figures if step is not None and step.path.exists() else {}


def _steps(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if "loss" in record]


def _figures(name: str, training: Training, steps: list[dict[str, Any]], plan: Plan) -> dict[str, Any]:
    """Of one training of a model, from its evaluation and the records of its steps."""
    model, evaluation = training.recipe.models[name], _evaluation(name, training)
    tokens, own = steps[-1]["tokens"] if steps else None, evaluation.get("flops_per_token")
    # a teacher costs the same in all trainings, and a further one may have none of its own
    asked: list[Any] = [_evaluation(teacher, plan.trainings[0]).get("flops_per_token") for teacher in model.teachers]
    return {name: evaluation.get(name) for name in table.evaluated()} | {
        "train_tokens": tokens,
        "train_tokens_asked": model.train.tokens if model.train is not None else None,
        "train_flops": TRAINING_PASSES * own * tokens if own and tokens else None,
        "teacher_flops": sum(asked) * tokens if asked and tokens and None not in asked else None,
        "seconds": steps[-1]["seconds"] if steps else None,
    }


def _evaluated_trainings(name: str, trainings: Iterable[Training], plan: Plan) -> list[dict[str, Any]]:
    """The seed and the figures of each training of a model that is evaluated."""
    found = []
    for training in trainings:
        if training.evaluations[name].path.exists():
            steps = _steps(metrics.read(training.folder / "models" / name))
            found.append({"seed": training.recipe.seed, **_figures(name, training, steps, plan)})
    return found


def _progress(step: ModelStep, records: list[dict[str, Any]], running: bool) -> Progress:
    """How far a model's training is, from the records of its steps; what is left, while it goes on."""
    if not records:
        return Progress(step.steps)
    last, speed = records[-1], records[-1]["tokens_per_second"]
    left = (step.steps - last["step"]) * last["tokens"] / last["step"]
    written = (step.path.parent / metrics.METRICS).stat().st_mtime
    return Progress(
        steps=step.steps,
        step=last["step"],
        loss=last["loss"],
        tokens_per_second=speed,
        seconds_left=left / speed if speed and running else None,
        last_step=datetime.datetime.fromtimestamp(written).isoformat(" ", "seconds"),
        checkpoints=[pace.step_of(path) for path in step.checkpoints],
    )


def _text(plan: Plan) -> dict[str, Any]:
    """What the report says of the text, as far as it is made."""
    text: dict[str, Any] = {"sources": [file.name for file in plan.documents.files]}
    if plan.documents.path.exists():
        documents = plan.documents.summary
        text["documents"] = documents["train_documents"] + documents["validation_documents"]
    if plan.train_tokens.path.exists() and plan.validation_tokens.path.exists():
        train, validation = plan.train_tokens.shards, plan.validation_tokens.shards
        text |= {
            "train_tokens": len(train),
            "validation_tokens": len(validation),
            "validation_bytes": validation.text_bytes,
            "vocabulary_size": train.vocabulary_size,
            "bytes_per_token": train.text_bytes / len(train),
        }
    return text


def _refined(plan: Plan) -> Refined | None:
    """What the refinery did, where it has written its page."""
    folder = plan.documents.path
    if not (folder / PAGE).is_file():
        return None
    record = Record.read(folder)
    page = (folder / PAGE).relative_to(plan.out).as_posix()
    return Refined(record.documents_in, record.documents_out, record.bytes_in, record.bytes_out, page)


def _warnings(plan: Plan, records: list[dict[str, Any]], asked: int | None) -> list[str]:
    """What a reader of the figures should know; `asked` is the recipe's `train.tokens`."""
    if not records:
        return []
    warnings = []
    tokens, available = records[-1]["tokens"], len(plan.train_tokens.shards)
    if tokens > 1.5 * available:
        warnings.append(f"trained for {tokens / available:.1f} epochs: more text would help more than more tokens")
    if asked is not None and abs(tokens - asked) > asked / 100:
        warnings.append(f"trained on {tokens:,} tokens, where train.tokens = {asked:,}")
    if damaged := sum(record.get("damaged_windows", 0) for record in records):
        warnings.append(f"skipped {damaged:,} windows whose tokens or stored targets were damaged")
    return warnings
