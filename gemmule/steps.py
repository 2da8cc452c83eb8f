"""How each artifact of a run is made: one function for each kind, given the step and the plan.

Each publishes into the step's folder and calls the one function of its own part of gemmule that does the work.
"""

from __future__ import annotations

import datetime
import json
import os
import shlex
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemmule import artifact, tokenizer
from gemmule.artifact import publish
from gemmule.convert.card import model_card
from gemmule.data.documents import read_split, write_documents
from gemmule.data.loader import Windows
from gemmule.data.shards import TokenShards, write_shards
from gemmule.distill.targets import sample, solve, write_targets
from gemmule.distill.teachers import load_teacher
from gemmule.distill.vocabulary import TEACHER_IDS, align, keep_rows, restrict, say_lost_mass
from gemmule.errors import RequestError
from gemmule.evaluate.figures import measure
from gemmule.generate.sampling import generate
from gemmule.model import weights
from gemmule.model.config import Gemma2Config
from gemmule.model.device import choose_device
from gemmule.plan import Plan, Step, gemma2_config
from gemmule.progress import Meter, human, say
from gemmule.tokenizer.load import Tokenizer, load_tokenizer
from gemmule.tokenizer.prune import prune, used_ids
from gemmule.train import metrics
from gemmule.train.loop import Job, train

PROMPT_LENGTH = 48  # characters, about


def make(step: Step, plan: Plan) -> None:
    """Makes the step's artifact. Its inputs are there."""
    step.path.parent.mkdir(parents=True, exist_ok=True)
    {
        "documents": _documents,
        "tokenizer": _tokenizer,
        "outside": _outside,
        "tokens": _tokens,
        "targets": _targets,
        "model": _model,
        "evaluation": _evaluation,
    }[step.kind](step, plan)


def _publish(step: Step) -> Any:
    return publish(step.path, step.kind, settings=step.settings, inputs=step.artifacts)


def _documents(step: Step, plan: Plan) -> None:
    data = plan.recipe.data
    with _publish(step) as folder:
        summary = write_documents(plan.files, data.field, data.validation_fraction, folder)
    skipped = f", {summary.skipped} without text skipped" if summary.skipped else ""
    say(
        f"documents: {summary.train_documents:,} to train on ({human(summary.train_bytes)}B), "
        f"{summary.validation_documents:,} to validate on ({human(summary.validation_bytes)}B){skipped}"
    )


def _tokenizer(step: Step, plan: Plan) -> None:
    wanted = plan.recipe.tokenizer.vocabulary_size
    with _publish(step) as folder:
        if wanted is None:
            assert step.source is not None
            made = load_tokenizer(step.source)
        else:
            made = tokenizer.train(read_split(step.inputs["documents"].path, "train"), wanted)
        if plan.recipe.tokenizer.prune:
            made, whole = prune(made, used_ids(_all_text(step.inputs["documents"].path), made), folder), made
            kept = f", of {whole.vocabulary_size:,}: those that the text uses, and what they need"
        else:
            tokenizer.save(made, folder)
            kept = ""
    say(f"tokenizer: {made.vocabulary_size:,} tokens{kept}")


def _all_text(documents: Path) -> Iterator[str]:
    """The documents of a run, those to validate on too: there as well a teacher is to read its own tokens."""
    return chain.from_iterable(read_split(documents, split) for split in ("train", "validation"))


def _outside(step: Step, plan: Plan) -> None:
    """Records where an outside model lies and how its vocabulary is the run's; its files stay where they are."""
    assert step.source is not None
    assert step.model is not None
    theirs = load_tokenizer(step.source)
    config = weights.read_config(weights.find_folder(step.source))
    ours = load_tokenizer(plan.tokenizer.path)
    teacher_ids = align(step.model, theirs, config.vocabulary_size, ours)
    with _publish(step) as folder:
        if teacher_ids is not None:
            say(f"{step.model}: of its {config.vocabulary_size:,} tokens it keeps the {len(teacher_ids):,} of this run")
            np.save(folder / TEACHER_IDS, teacher_ids)
        artifact.write_json(folder / "source.json", {"source": str(step.source), "config": config.to_huggingface()})


def _tokens(step: Step, plan: Plan) -> None:
    split = step.settings["split"]
    with _publish(step) as folder:
        shards = write_shards(
            read_split(step.inputs["documents"].path, split), load_tokenizer(step.inputs["tokenizer"].path), folder
        )
    say(f"tokens: {human(len(shards))} for {split}, {shards.text_bytes / len(shards):.2f} bytes each")


def _targets(step: Step, plan: Plan) -> None:
    assert step.model is not None
    distill = plan.recipe.models[step.model].distill
    assert distill.targets is not None
    source = step.inputs["teacher"]
    teacher = restrict(load_teacher(_weights_of(source), choose_device(plan.recipe.machine.device)), source.path)
    windows = _windows(step.inputs["tokens"], step.inputs["tokenizer"], plan)
    say_lost_mass(source.path.parent.name, teacher, windows)
    seed = plan.recipe.seed
    examples = sample(teacher, windows, temperature=distill.temperature, seed=seed)
    coding = solve(examples, distill.targets.bytes_per_token, len(windows.shards), seed)
    with _publish(step) as folder, Meter(f"targets of {step.path.name}", len(windows.shards)) as meter:
        spent = write_targets(
            folder,
            teacher,
            windows,
            coding,
            temperature=distill.temperature,
            seed=seed,
            progress=lambda done, _: meter.update(done),
        )
    say(f"targets of {step.path.name}: {spent:.1f} bytes per token")


def _model(step: Step, plan: Plan) -> None:
    name = step.model
    assert name is not None
    recipe, words = plan.recipe, load_tokenizer(step.inputs["tokenizer"].path)
    model = recipe.models[name]
    assert model.train is not None
    job = Job(
        name=name,
        folder=step.path.parent,
        config=_config(step, plan, words),
        train=model.train,
        distill=model.distill,
        machine=recipe.machine,
        seed=recipe.seed,
        windows=_windows(step.inputs["tokens"], step.inputs["tokenizer"], plan),
        validation=_windows(step.inputs["validation"], step.inputs["tokenizer"], plan),
        settings=step.settings,
        inputs=step.artifacts,
        teacher=_weights_of(step.inputs["teacher"]) if "teacher" in step.inputs else None,
        teacher_ids=step.inputs["teacher"].path if "teacher" in step.inputs else None,
        targets=step.inputs["targets"].path if "targets" in step.inputs else None,
        start_from=_weights_of(step.inputs["start_from"]) if "start_from" in step.inputs else None,
    )
    taught = f", learning from {model.learn_from}" if model.learn_from != "none" else ""
    say(f"{name}: {human(job.config.parameters)} parameters, {job.steps} steps{taught}")
    trained = train(job)
    with _publish(step) as folder:
        weights.save(trained, folder)
        tokenizer.save(words, folder)
        card = model_card(name, job.config, step.settings, step.artifacts)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _config(step: Step, plan: Plan, words: Tokenizer) -> Gemma2Config:
    """The shape of the model to train. Raises RequestError if it is to start from weights of another shape."""
    assert step.model is not None
    shape = plan.recipe.models[step.model].architecture
    length = plan.recipe.data.sequence_length
    start = weights.read_config(_weights_of(step.inputs["start_from"])) if "start_from" in step.inputs else None
    if start is not None and (step.inputs["start_from"].path / TEACHER_IDS).is_file():
        raise RequestError(
            f"models.{step.model}.start_from: the rows of its table are not this run's tokens; "
            "leave tokenizer.prune out"
        )
    if shape is None:
        assert start is not None
        config = start
    else:
        config = gemma2_config(shape, words.vocabulary_size, start.context_length if start else length)
    if start is not None and start.to_huggingface() != config.to_huggingface():
        raise RequestError(f"models.{step.model}.start_from: its shape or vocabulary is not that of the model to train")
    if config.vocabulary_size < words.vocabulary_size:
        raise RequestError(
            f"models.{step.model}: its table has {config.vocabulary_size} rows and the tokenizer "
            f"{words.vocabulary_size} tokens"
        )
    return config


def _windows(tokens: Step, words: Step, plan: Plan) -> Windows:
    vocabulary = load_tokenizer(words.path)
    return Windows(
        TokenShards(tokens.path),
        plan.recipe.data.sequence_length,
        vocabulary.bos_id,
        vocabulary.pad_id,
        plan.recipe.seed,
        separate_documents=plan.recipe.data.separate_documents,
    )


def _weights_of(step: Step) -> Path:
    """The folder with a model's weights: its own, or the outside one that the step records."""
    if step.kind != "outside":
        return step.path
    return weights.find_folder(json.loads((step.path / "source.json").read_text(encoding="utf-8"))["source"])


def _evaluation(step: Step, plan: Plan) -> None:
    name = step.model
    assert name is not None
    wishes, words = plan.recipe.evaluate, load_tokenizer(step.inputs["tokenizer"].path)
    device = choose_device(plan.recipe.machine.device)
    model = keep_rows(weights.load(_weights_of(step.inputs["model"])), step.inputs["model"].path).to(device)
    teacher = None
    if "teacher" in step.inputs:
        source = step.inputs["teacher"]
        teacher = restrict(load_teacher(_weights_of(source), device), source.path)
    windows = _windows(step.inputs["validation"], step.inputs["tokenizer"], plan)
    with _publish(step) as folder:
        figures = measure(
            model, windows, TokenShards(step.inputs["validation"].path).text_bytes, teacher, f"evaluating {name}"
        )
        prompts = wishes.prompts or _openings(step.inputs["documents"].path)
        figures["samples"] = [
            {
                "prompt": prompt,
                "text": generate(
                    model,
                    words,
                    prompt,
                    max_new_tokens=wishes.sample_tokens,
                    temperature=wishes.temperature,
                    seed=plan.recipe.seed,
                ),
            }
            for prompt in prompts
        ]
        figures["parameters"] = model.config.parameters
        figures["embedding_parameters"] = model.config.embedding_parameters
        figures["flops_per_token"] = model.config.flops_per_token(windows.sequence_length)
        artifact.write_json(folder / "evaluation.json", figures)
    say(f"{name}: perplexity {figures['perplexity']:.2f}")


def _openings(documents: Path) -> list[str]:
    """The opening words of two validation documents, as prompts."""
    prompts = []
    for text in islice(read_split(documents, "validation"), 2):
        words = text.strip()[:PROMPT_LENGTH].rsplit(maxsplit=1)
        prompts.append(words[0] if words else "")
    return prompts


def write_summary_and_report(plan: Plan) -> None:
    """summary.json and report.html, from what the finished steps left."""
    from gemmule.report import write_report
    from gemmule.report.contents import ModelReport, ReportData, Role

    evaluations = {
        step.model: json.loads((step.path / "evaluation.json").read_text(encoding="utf-8"))
        for step in plan.steps
        if step.kind == "evaluation"
    }
    flops = {name: evaluation["flops_per_token"] for name, evaluation in evaluations.items()}
    teachers = {model.learn_from for model in plan.recipe.models.values()}
    models, summary = {}, {}
    for name, model in plan.recipe.models.items():
        evaluation = evaluations[name]
        records = metrics.read(plan.out / "models" / name)
        steps = [record for record in records if "loss" in record]
        tokens = steps[-1]["tokens"] if steps else None
        taught = model.learn_from != "none"
        figures = {
            key: evaluation[key]
            for key in ("perplexity", "bits_per_byte", "ece", "accuracy", "kl_to_teacher", "agreement",
                        "parameters", "embedding_parameters")
        }  # fmt: skip
        figures |= {
            "train_tokens": tokens,
            "train_flops": 3 * flops[name] * tokens if tokens else None,
            "teacher_flops": flops[model.learn_from] * tokens if taught and tokens else None,
            "seconds": steps[-1]["seconds"] if steps else None,
        }
        summary[name] = figures
        role: Role = "teacher" if name in teachers else "student" if taught else "control" if model.like else "model"
        step = plan.model_step(name)
        models[name] = ModelReport(
            role=role,
            learn_from=model.learn_from if taught else None,
            start_from=model.start_from,
            like=model.like,
            origin=model.from_,
            figures=figures,
            curve=[{"tokens": r["tokens"], "loss": r["validation_loss"]} for r in records if "validation_loss" in r],
            training=[{"tokens": record["tokens"], "loss": record["loss"]} for record in steps],
            calibration=evaluation["calibration"],
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
