"""How each artifact of a run is made: one function for each kind, given the step and the plan.

Each publishes into the step's folder and calls the one function of its own part of gemmule that does the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemmule import recipe as recipes
from gemmule import tokenize
from gemmule.base import addresses, artifact, ranks
from gemmule.base.artifact import publish
from gemmule.base.device import choose_device
from gemmule.base.errors import RequestError
from gemmule.base.progress import human, say
from gemmule.convert.card import model_card
from gemmule.convert.folder import find_source
from gemmule.convert.gguf_names import ARCHITECTURE
from gemmule.convert.importing import gguf_architecture, import_model
from gemmule.convert.tokenizers import read_tokenizer
from gemmule.evaluate.figures import measure
from gemmule.generate.sampling import generate
from gemmule.generate.text import continuation
from gemmule.model import weights
from gemmule.model.config import Gemma2Config, check_cut, describe_cut
from gemmule.plan.loading import (
    folder_of,
    load_aligned,
    load_model,
    load_teachers,
    load_tried_teachers,
    read_windows,
    record_of,
    top_k,
    weights_of,
)
from gemmule.plan.plan import Plan, Step, digest, gemma2_config, model_files
from gemmule.plan.prerequisites import check_extras
from gemmule.recipe import Evaluate
from gemmule.refine.documents import read_split, write_documents
from gemmule.teach.roles import teachers_in
from gemmule.teach.teachers import huggingface, outside
from gemmule.teach.teachers.served import ServedTeacher
from gemmule.teach.teachers.teachers import Gemma2Teacher, Teacher
from gemmule.teach.teachers.vocabulary import TEACHER_IDS, Restricted, align, read_teacher_ids, say_lost_mass
from gemmule.teach.teaching import Teaching
from gemmule.tokenize.prune import prune, used_ids
from gemmule.tokenize.shards import TokenShards, write_shards
from gemmule.tokenize.tokenizer import Tokenizer, load_tokenizer
from gemmule.train.job import Job
from gemmule.train.loop import train

PROMPT_LENGTH = 48  # characters, about
UNKNOWN_OF_SERVED = (
    "perplexity", "bits_per_byte", "ece", "accuracy", "kl_to_teacher", "agreement", "parameters",
    "embedding_parameters", "flops_per_token",
)  # fmt: skip


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
    for note in plan.text_notes:
        say(note)
    with _publish(step) as folder:
        skip_bad = data.bad_records == "skip"
        summary = write_documents(plan.files, data.field, data.validation_fraction, folder, skip_bad=skip_bad)
    say(
        f"documents: {summary.train_documents:,} for training ({human(summary.train_bytes)}B), "
        f"{summary.validation_documents:,} for validation ({human(summary.validation_bytes)}B){summary.remarks}"
    )
    if summary.left_out:
        say(f"skipped: {summary.left_out}")


def _tokenizer(step: Step, plan: Plan) -> None:
    wanted = plan.recipe.tokenizer.vocabulary_size
    with _publish(step) as folder:
        if wanted is None:
            assert step.source is not None
            made = read_tokenizer(step.source)
        else:
            texts = read_split(step.inputs["documents"].path, "train", "tokenizer: reading text")
            made = tokenize.train(texts, wanted)
        if plan.recipe.tokenizer.prune:
            made, whole = prune(made, used_ids(_all_text(step.inputs["documents"].path), made), folder), made
            kept = f", of {whole.vocabulary_size:,}: those that the text uses, and their merges"
        else:
            tokenize.save(made, folder)
            kept = ""
    say(f"tokenizer: {made.vocabulary_size:,} tokens{kept}")


def _all_text(documents: Path) -> Iterator[str]:
    """The documents of a run, those to validate on too: there as well a teacher is to read its own tokens."""
    return chain.from_iterable(
        read_split(documents, split, f"tokenizer: reading {split}") for split in ("train", "validation")
    )


def _outside(step: Step, plan: Plan) -> None:
    """Records where an outside model lies and that its tokenizer is the run's; its files stay where they are.

    A Gemma 2's GGUF file is imported into the run.
    """
    assert step.source is not None
    assert step.model is not None
    source, ours = step.source, load_tokenizer(plan.tokenizer.path)
    if not addresses.is_url(source) and not Path(source).is_file():
        source = find_source(source)
        outside.check_folder(source, plan.recipe.data.sequence_length)
    kind = outside.kind_of(source)
    check_extras(source, kind)
    record: dict[str, Any] = {"source": str(step.source), "kind": kind}
    if source != step.source:  # of the hub, where another revision may stand when the run is resumed
        record["files"] = digest(model_files(Path(source)), {})
    with _publish(step) as folder:
        if kind == "gguf" and (step.path.name == "start" or gguf_architecture(Path(source)) == ARCHITECTURE):
            import_model(source, folder / "model")
            record["kind"] = "gemma2"
        whole = step.source == plan.tokenizer.source and not plan.recipe.tokenizer.prune
        if kind == "served":  # its tokenizer is the recipe's, before that is pruned
            assert plan.tokenizer.source is not None
            theirs = read_tokenizer(plan.tokenizer.source) if plan.recipe.tokenizer.prune else ours
            rows = theirs.vocabulary_size
            served = ServedTeacher(str(source), rows, torch.device("cpu"), top_k(step, plan))
            served.expect(torch.tensor([[theirs.eos_id, theirs.eos_id]]))  # whether it gives what is needed
            record["model"], record["top_k"] = served.name, served.top_k
        else:
            theirs = ours if whole else read_tokenizer(source)
            rows = _rows(folder / "model" if (folder / "model").is_dir() else Path(source), theirs)
        own = "vocabulary" in step.settings
        teacher_ids = None if own else align(step.model, theirs, rows, ours)
        if teacher_ids is not None:
            say(f"{step.model}: {len(teacher_ids):,} of its {rows:,} tokens are kept, those of this run")
            np.save(folder / TEACHER_IDS, teacher_ids)
        if own or teacher_ids is not None:
            tokenize.save(theirs, folder / "tokenizer")
        artifact.write_json(folder / "source.json", record)


def _rows(source: Path, tokenizer: Tokenizer) -> int:
    """The rows of a model's table, as far as they can be known without loading it."""
    if source.is_file():
        return tokenizer.vocabulary_size
    config = outside.read_config(source)
    return int(config.get("text_config", config).get("vocab_size", tokenizer.vocabulary_size))


def _tokens(step: Step, plan: Plan) -> None:
    split = step.settings["split"]
    with _publish(step) as folder:
        texts = read_split(step.inputs["documents"].path, split, f"tokenizing {split}")
        shards = write_shards(texts, load_tokenizer(step.inputs["tokenizer"].path), folder)
    say(f"tokens: {human(len(shards))} for {split}, {shards.text_bytes / len(shards):.2f} bytes each")


def _targets(step: Step, plan: Plan) -> None:
    targets = teaching(step, plan)
    targets.prepare()
    with ranks.together(str(step.path)):
        targets.teach(ranks.rank(), ranks.size())
    targets.publish()


def take_part(step: Step, plan: Plan) -> None:
    """What another process than the first does while that one makes the step: its share of teaching, or of training."""
    if step.kind == "targets":
        teaching(step, plan).teach(ranks.rank(), ranks.size())
    else:
        train(job_of(step, plan))


def teaching(step: Step, plan: Plan) -> Teaching:
    """The making of a folder of targets, by this process or by many. The step's inputs are there."""
    assert step.model is not None
    distill = plan.recipe.models[step.model].distill
    assert distill.targets is not None
    for teacher in plan.teachers_of(step.model):
        record = record_of(plan.model_step(teacher))
        if record["kind"] == "served" and record["top_k"] < (distill.targets.k or 0):
            raise RequestError(
                f"models.{step.model}.distill.targets.k = {distill.targets.k}: {teacher} gives its top "
                f"{record['top_k']} at most (vLLM's --max-logprobs)"
            )
    windows = read_windows(step.inputs["tokens"], step.inputs["tokenizer"], plan)

    def load() -> Teacher:
        teacher = load_tried_teachers(step, plan, choose_device(plan.recipe.machine.device))
        say_lost_mass(step.path.name, teacher, windows)
        return teacher

    return Teaching(
        path=step.path,
        settings=step.settings,
        inputs=step.artifacts,
        windows=windows,
        load=load,
        how=distill.targets,
        temperature=distill.temperature,
        seed=plan.recipe.seed,
        old=plan.out / "old",
    )


def job_of(step: Step, plan: Plan) -> Job:
    """What the training of a step's model needs. The step's inputs are there."""
    name = step.model
    assert name is not None
    recipe, tokenizer = plan.recipe, load_tokenizer(step.inputs["tokenizer"].path)
    model = recipe.models[name]
    assert model.train is not None
    start_rows = _start_rows(step)
    load = load_aligned if model.distill.loss == "alm" else load_tried_teachers
    return Job(
        name=name,
        folder=step.path.parent,
        config=_config(step, plan, tokenizer, start_rows),
        train=model.train,
        distill=model.distill,
        machine=recipe.machine,
        seed=recipe.seed,
        windows=read_windows(step.inputs["tokens"], step.inputs["tokenizer"], plan, recipe.data.damaged == "skip"),
        validation=read_windows(
            step.inputs["validation"], step.inputs["tokenizer"], plan, recipe.data.damaged == "skip"
        ),
        settings=step.settings,
        inputs=step.artifacts,
        teacher=partial(load, step, plan) if teachers_in(step.inputs) else None,
        targets=step.inputs["targets"].path if "targets" in step.inputs else None,
        start_from=weights_of(step.inputs["start_from"]) if "start_from" in step.inputs else None,
        start_rows=start_rows,
        decode=tokenizer.decode,
    )


def _model(step: Step, plan: Plan) -> None:
    job, tokenizer = job_of(step, plan), load_tokenizer(step.inputs["tokenizer"].path)
    name, model = job.name, plan.recipe.models[job.name]
    taught = f", learning from {recipes.join_names(model.teachers)}" if model.teachers else ""
    cut = describe_own_cut(step, job.config)
    started = f", cut from {model.start_from} ({cut})" if cut else ""
    batch = human(job.tokens // job.steps)
    say(f"{name}: {human(job.config.parameters)} parameters, {job.steps} steps of {batch} tokens{taught}{started}")
    if budget := job.describe_budget():
        say(f"{name}: {budget}")
    with ranks.together(str(step.path)):
        trained = train(job)
    with _publish(step) as folder:
        weights.save(trained, folder, tokenizer.control_ids)
        tokenize.save(tokenizer, folder)
        card = model_card(name, job.config, step.settings, step.artifacts, cut)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _config(step: Step, plan: Plan, tokenizer: Tokenizer, start_rows: torch.Tensor | None) -> Gemma2Config:
    """The shape of the model to train. Raises RequestError if it can't be cut from the weights it is to start from."""
    assert step.model is not None
    shape = plan.recipe.models[step.model].architecture
    length = plan.recipe.data.sequence_length
    start = weights.read_config(folder_of(step.inputs["start_from"])) if "start_from" in step.inputs else None
    if start is not None and start_rows is not None:
        start = replace(start, vocabulary_size=len(start_rows))
    if shape is None:
        assert start is not None
        config = start
    else:
        config = gemma2_config(shape, tokenizer.vocabulary_size, start.context_length if start else length)
    if start is not None:
        try:
            check_cut(start, config)
        except RequestError as error:
            raise RequestError(f"models.{step.model}.start_from: {error}") from None
    if config.vocabulary_size < tokenizer.vocabulary_size:
        raise RequestError(
            f"models.{step.model}: its embedding has {config.vocabulary_size} rows and the tokenizer "
            f"{tokenizer.vocabulary_size} tokens"
        )
    return config


def _start_rows(step: Step) -> torch.Tensor | None:
    """Of the table of the model that another starts from: the rows of this run's tokens; None where that is all."""
    return read_teacher_ids(step.inputs["start_from"].path) if "start_from" in step.inputs else None


def describe_own_cut(step: Step, config: Gemma2Config) -> str:
    """What a model kept of the one that it starts from, in words; empty where that is all, or it starts from none."""
    if "start_from" not in step.inputs:
        return ""
    return describe_cut(weights.read_config(folder_of(step.inputs["start_from"])), config)


def _evaluation(step: Step, plan: Plan) -> None:
    name = step.model
    assert name is not None
    settings, tokenizer = plan.recipe.evaluate, load_tokenizer(step.inputs["tokenizer"].path)
    device = choose_device(plan.recipe.machine.device)
    model = load_model(step.inputs["model"], plan, device)
    teacher = load_teachers(step, plan, device) if teachers_in(step.inputs) else None
    windows = read_windows(step.inputs["validation"], step.inputs["tokenizer"], plan)
    text_bytes = TokenShards(step.inputs["validation"].path).text_bytes
    prompts = settings.prompts or _openings(step.inputs["documents"].path)
    with _publish(step) as folder:
        own_tokens = "vocabulary" in step.inputs["model"].settings
        asked = model.teacher if isinstance(model, Restricted) else model
        if own_tokens or isinstance(asked, ServedTeacher):
            figures: dict[str, Any] = dict.fromkeys(UNKNOWN_OF_SERVED) | {"calibration": [], "samples": []}
        else:
            figures = measure(model, windows, text_bytes, teacher, f"evaluating {name}")
            figures |= _sizes(asked, windows.sequence_length)
            if isinstance(model, Restricted):  # it writes in all of its own tokens
                tokenizer = load_tokenizer(step.inputs["model"].path / "tokenizer")
            write = partial(_write_on, asked, tokenizer, settings, plan.recipe.seed)
            figures["samples"] = [{"prompt": prompt, "text": write(prompt)} for prompt in prompts]
        artifact.write_json(folder / "evaluation.json", figures)
    if own_tokens:
        say(f"{name}: not evaluated: it has a tokenizer of its own")
    elif isinstance(asked, ServedTeacher):
        say(f"{name}: not evaluated: a server provides only its top {asked.top_k} at each token")
    else:
        say(f"{name}: perplexity {figures['perplexity']:.2f}")


def _sizes(model: Teacher, sequence_length: int) -> dict[str, int | float]:
    if isinstance(model, huggingface.HuggingFaceTeacher):
        return huggingface.sizes(model, sequence_length)
    assert isinstance(model, Gemma2Teacher)
    config = model.model.config
    return {
        "parameters": config.parameters,
        "embedding_parameters": config.embedding_parameters,
        "flops_per_token": config.flops_per_token(sequence_length),
    }


def _write_on(model: Teacher, tokenizer: Tokenizer, settings: Evaluate, seed: int, prompt: str) -> str:
    """What a model writes after a prompt."""
    sampling: dict[str, Any] = {
        "max_new_tokens": settings.sample_tokens, "temperature": settings.temperature, "seed": seed
    }  # fmt: skip
    if isinstance(model, huggingface.HuggingFaceTeacher):
        ids = [*tokenizer.opening, *tokenizer.encode(prompt)] or [tokenizer.eos_id]
        return continuation(tokenizer, ids, huggingface.write_on(model, ids, **sampling))
    assert isinstance(model, Gemma2Teacher)
    return str(generate(model.model, tokenizer, prompt, **sampling))


def _openings(documents: Path) -> list[str]:
    """The opening words of two validation documents, as prompts."""
    prompts = []
    for text in islice(read_split(documents, "validation"), 2):
        words = text.strip()[:PROMPT_LENGTH].rsplit(maxsplit=1)
        prompts.append(words[0] if words else "")
    return prompts
