"""summary.json and report.html of a run, from what its finished steps left."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import sys

import torch

from gemmule import artifact
from gemmule import recipe as recipes
from gemmule.data.shards import TokenShards
from gemmule.model import weights
from gemmule.model.device import choose_device
from gemmule.plan import Plan
from gemmule.report import write_report
from gemmule.report.contents import ModelReport, ReportData, Role
from gemmule.steps import describe_own_cut
from gemmule.train import metrics


def write_summary_and_report(plan: Plan) -> None:
    """summary.json and report.html, from what the finished steps left."""
    evaluations = {
        step.model: json.loads((step.path / "evaluation.json").read_text(encoding="utf-8"))
        for step in plan.steps
        if step.kind == "evaluation"
    }
    flops = {name: evaluation["flops_per_token"] for name, evaluation in evaluations.items()}
    teachers = {teacher for model in plan.recipe.models.values() for teacher in model.teachers}
    models, summary = {}, {}
    for name, model in plan.recipe.models.items():
        evaluation = evaluations[name]
        records = metrics.read(plan.out / "models" / name)
        steps = [record for record in records if "loss" in record]
        tokens = steps[-1]["tokens"] if steps else None
        taught = bool(model.teachers)
        asked = [flops[teacher] for teacher in model.teachers]
        figures = {
            key: evaluation[key]
            for key in ("perplexity", "bits_per_byte", "ece", "accuracy", "kl_to_teacher", "agreement",
                        "parameters", "embedding_parameters")
        }  # fmt: skip
        figures |= {
            "train_tokens": tokens,
            "train_flops": 3 * flops[name] * tokens if tokens else None,
            "teacher_flops": sum(asked) * tokens if taught and tokens and None not in asked else None,
            "seconds": steps[-1]["seconds"] if steps else None,
        }
        summary[name] = figures
        role: Role = "teacher" if name in teachers else "student" if taught else "control" if model.like else "model"
        step, teachers_of = plan.model_step(name), plan.teachers_of(name)
        models[name] = ModelReport(
            role=role,
            learn_from=recipes.join_names(model.teachers) if taught else None,
            start_from=model.start_from,
            cut=describe_own_cut(step, weights.read_config(step.path)) if model.start_from is not None else "",
            like=model.like,
            origin=model.from_,
            figures=figures,
            curve=[{"tokens": r["tokens"], "loss": r["validation_loss"]} for r in records if "validation_loss" in r],
            training=[{"tokens": record["tokens"], "loss": record["loss"]} for record in steps],
            calibration=evaluation["calibration"],
            against=next(iter(teachers_of)) if len(teachers_of) == 1 else None,
            agreement=evaluation.get("agreement_by_entropy", []),
            samples=evaluation["samples"],
            settings=step.settings,
            lineage=[{"hash": key, **entry} for key, entry in step.artifact.manifest.ancestry.items()],
            warnings=_warnings(plan, tokens),
        )
    artifact.write_json(plan.out / "summary.json", {"models": summary})
    documents = json.loads((plan.out / "documents" / "summary.json").read_text(encoding="utf-8"))
    shards = {split: TokenShards(step.path) for split, step in plan.tokens.items()}
    device = choose_device(plan.recipe.machine.device)
    report = ReportData(
        name=plan.recipe.name,
        created=datetime.date.today().isoformat(),
        command=shlex.join(["gemmule", *sys.argv[1:]]),
        machine=f"{os.cpu_count()} CPU cores, {device.type}, torch {torch.__version__}",
        text={
            "documents": documents["train_documents"] + documents["validation_documents"],
            "train_tokens": len(shards["train"]),
            "validation_tokens": len(shards["validation"]),
            "validation_bytes": shards["validation"].text_bytes,
            "vocabulary_size": shards["train"].vocabulary_size,
            "bytes_per_token": shards["train"].text_bytes / len(shards["train"]),
            "sources": [file.name for file in plan.files],
        },
        models=models,
        recipe=(plan.out / "recipe.toml").read_text(encoding="utf-8"),
    )
    write_report(report, plan.out / "report.html")


def _warnings(plan: Plan, tokens: int | None) -> list[str]:
    """What a reader of the figures should know."""
    available = len(TokenShards(plan.tokens["train"].path))
    if tokens and tokens > 1.5 * available:
        return [f"read the text {tokens / available:.1f} times: more text would help more than more tokens"]
    return []
