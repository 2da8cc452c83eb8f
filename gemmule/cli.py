"""The verbs of the command line: each parses, calls one function, and prints. How they end: `base/outcome.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from gemmule import __version__
from gemmule.base import outcome, signals
from gemmule.base.errors import RequestError
from gemmule.base.streams import show, show_json
from gemmule.convert.file_types import HELP as TYPES_HELP
from gemmule.studies import run as run_study
from gemmule.studies import studies

app = typer.Typer(
    name="gemmule",
    help="A large model teaches a small one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RESUMABLE = {"run", "demo", "teach"}  # and each `_verb`; the others start over
YEAR = 365 * 24 * 60  # minutes


def _named(text: str | Path) -> Path:
    """A path on the command line. Raises RequestError for an empty one, which would be the working directory."""
    if not str(text).strip():
        raise RequestError("an empty path names no file or folder; leave the option out, or name one")
    return Path(text)


def _whole(text: str) -> int:
    """A whole number on the command line; its range is checked by who knows it."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is not a number") from None


def _minutes(text: str) -> float:
    minutes = _number(text)
    if not 1 <= minutes <= YEAR:
        raise typer.BadParameter(f"{text[:40]}: must be from 1 to {YEAR:,}, a year")
    return minutes


def _recipe(path: Path) -> Path:
    """Raises UsageError where none is named and none lies here."""
    if path == DEFAULT_RECIPE and not path.is_file():
        raise typer.BadParameter(
            f"there is no {DEFAULT_RECIPE} here: name a recipe, or write one with gemmule init TEXT..."
        )
    return path


DEFAULT_RECIPE = Path("recipe.toml")
RecipePath = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE",
        parser=_named,
        callback=_recipe,
        help="a recipe file (TOML), or gemmule:NAME for one that gemmule brings",
    ),
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the recipe")]
Out = Annotated[Path | None, typer.Option(parser=_named, metavar="DIR", help="the run folder; default: runs/<name>")]
Remake = Annotated[
    bool, typer.Option("--remake", help="move artifacts made with other settings to old/ and remake them")
]
Force = Annotated[bool, typer.Option("--force", help="run even where memory or disk is too small by the estimate")]
Models = Annotated[list[str] | None, typer.Option("--model", metavar="NAME", help="only this model; may be repeated")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="run code that the recipe names (refine.keep)")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON when done")]


def main() -> None:
    """The `gemmule` command."""
    outcome.run(lambda arguments: app(args=arguments, prog_name="gemmule"), sys.argv[1:], _resumes)


def _resumes(arguments: list[str]) -> bool:
    """Whether this command takes up what was interrupted."""
    verb, *named = [argument for argument in arguments if not argument.startswith("-")] or [""]
    if any(argument.partition("=")[0] in ("--explain", "--dry-run") for argument in arguments):
        return False
    return verb in RESUMABLE and (verb != "evaluate" or not named or any(map(_is_recipe, named)))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show a traceback where something fails")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(parser=_named, metavar="DIR", help="the run folder itself")] = Path("runs/demo"),
    overrides: Overrides = None,
    remake: Remake = False,
    force: Force = False,
) -> None:
    """The whole story on bundled text, in minutes, on a laptop."""
    from gemmule.run.runner import Family

    Family.from_file(Path("gemmule:demo"), overrides or (), out).run(remake=remake, force=force)


@app.command()
def init(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="files, folders or globs")],
    teacher: Annotated[str | None, typer.Option(help="a folder, hub id, GGUF file or http://server/v1")] = None,
    size: Annotated[str | None, typer.Option(help="the student's parameters, embedding included, such as 5M")] = None,
    minutes: Annotated[
        float, typer.Option(parser=_minutes, metavar="MINUTES", help="how long it may take on this machine")
    ] = 12.0,
    field: Annotated[
        str | None, typer.Option(help="for jsonl, csv, json, parquet: the field that holds the text")
    ] = None,
    out: Annotated[Path, typer.Option(parser=_named, metavar="FILE", help="the recipe to write")] = DEFAULT_RECIPE,
) -> None:
    """Writes a recipe that fits your text and this machine."""
    from gemmule.init.fit import check_free, fit_recipe, write_file
    from gemmule.recipe import parse_count

    check_free(out)
    try:
        parameters = parse_count(size)
    except ValueError as error:
        raise RequestError(f"--size {size}: {error}") from None
    fitted = fit_recipe(texts, out, teacher, parameters, minutes, field)
    write_file(out, fitted.text)
    for line in fitted.decisions:
        show(line)
    show(f"{out}: written. Read it, then: gemmule run {out}")


@app.command()
def run(
    recipe: RecipePath = DEFAULT_RECIPE,
    overrides: Overrides = None,
    out: Out = None,
    remake: Remake = False,
    force: Force = False,
    allow_code: AllowCode = False,
) -> None:
    """Runs a recipe; the same command resumes where it stopped."""
    from gemmule.run.runner import Family

    Family.from_file(recipe, overrides or (), out, allow_code).run(remake=remake, force=force)


def _verb(name: str, what: str) -> Callable[..., None]:
    def one_step(
        recipe: RecipePath = DEFAULT_RECIPE,
        overrides: Overrides = None,
        out: Out = None,
        remake: Remake = False,
        force: Force = False,
        models: Models = None,
        allow_code: AllowCode = False,
    ) -> None:
        from gemmule.run.runner import Family

        Family.from_file(recipe, overrides or (), out, allow_code).run(name, models or (), remake, force)

    RESUMABLE.add(name)
    one_step.__doc__ = f"One step of a recipe: {what}."
    app.command(name)(one_step)
    return one_step


@app.command()
def refine(
    recipe: RecipePath = DEFAULT_RECIPE,
    overrides: Overrides = None,
    out: Out = None,
    remake: Remake = False,
    force: Force = False,
    allow_code: AllowCode = False,
    explain: Annotated[
        str | None, typer.Option(metavar="FILE[:N]", help="what every step thinks of a document; makes nothing")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count what each step drops; makes nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """One step of a recipe: text into documents."""
    from gemmule.run.runner import Family

    if explain is None and not dry_run:
        if as_json:
            raise RequestError("--json: for --dry-run; what is made has its counts in documents/refinery.json")
        Family.from_file(recipe, overrides or (), out, allow_code).run("refine", (), remake, force)
        return
    for option, given in {"--remake": remake, "--dry-run": explain is not None and dry_run}.items():
        if given:
            raise RequestError(f"{option}: not with {'--dry-run' if explain is None else '--explain'}")
    documents = Family.from_file(recipe, overrides or (), out, allow_code).plan.documents
    from gemmule.refine import explaining

    if explain is not None:
        explaining.show_all(documents.explain(explain))
        return
    record = documents.dry_run()
    if as_json:
        show_json(record)
    else:
        for line in explaining.table_lines(record):
            show(line)


RESUMABLE.add("refine")
tokenize = _verb("tokenize", "documents into token shards")


@app.command()
def teach(
    recipe: RecipePath = DEFAULT_RECIPE,
    overrides: Overrides = None,
    out: Out = None,
    remake: Remake = False,
    force: Force = False,
    models: Models = None,
    allow_code: AllowCode = False,
    worker: Annotated[
        str | None, typer.Option(metavar="N/COUNT", help="this worker's number of how many: 1/16, 2/16, ...")
    ] = None,
) -> None:
    """One step of a recipe: a teacher's distributions, cached."""
    from gemmule.run.runner import Family, Worker

    if worker is None:
        Family.from_file(recipe, overrides or (), out, allow_code).run("teach", models or (), remake, force)
        return
    if remake:
        raise RequestError("--remake: not with --worker; use it once in a command without --worker")
    share = Worker.parse(worker)
    Family.from_file(recipe, overrides or (), out, allow_code).teach(share, models or (), force)


train = _verb("train", "models, trained")


def _target(named: str) -> str:
    """A recipe, which must be there if it is the default, or a model."""
    return str(_recipe(Path(named))) if _is_recipe(named) else named


def _is_recipe(named: str) -> bool:
    """Whether this names a recipe and no model."""
    return named.endswith(".toml") or named.startswith("gemmule:")


@app.command()
def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|RECIPE", callback=_target, help="a model folder, hub id or GGUF file; or a recipe (TOML)"
        ),
    ] = str(DEFAULT_RECIPE),
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="files, folders or globs")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="another model, to compare with on the same text")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="tasks: of lm-evaluation-harness, or gemmule:NAME for one of gemmule's"),
    ] = None,
    include: Annotated[
        Path | None, typer.Option(parser=_named, metavar="DIR", help="a folder of lm-evaluation-harness tasks")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="run code that files in --include, or a recipe, name")
    ] = False,
    context: Annotated[
        int | None, typer.Option(parser=_whole, metavar="N", help="tokens of a window; default: the model's context")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(parser=_whole, metavar="N", help="tokens from one window to the next; default: no overlap"),
    ] = None,
    field: Annotated[str | None, typer.Option(help="for jsonl, csv, json, parquet: the field with the text")] = None,
    as_json: AsJson = False,
    overrides: Overrides = None,
    out: Out = None,
    remake: Remake = False,
    force: Force = False,
    models: Models = None,
) -> None:
    """Measures any model on any text; of a recipe, all of its models."""
    of_a_model = {"TEXT": texts, "--against": against, "--tasks": tasks, "--include": include, "--context": context,
                  "--stride": stride, "--field": field, "--json": as_json}  # fmt: skip
    of_a_recipe = {"--set": overrides, "--out": out, "--remake": remake, "--force": force, "--model": models}
    is_recipe = _is_recipe(target)
    for option, value in (of_a_model if is_recipe else of_a_recipe).items():
        if value not in (None, [], False):
            belongs = "a model, and this is a recipe" if is_recipe else "a recipe, and this is a model"
            raise RequestError(f"{option}: for {belongs}: {target}")
    if is_recipe:
        from gemmule.run.runner import Family

        Family.from_file(Path(target), overrides or (), out, allow_code).run("evaluate", models or (), remake, force)
        return
    with signals.deferred():
        from gemmule.evaluate import outside  # imports torch

    names = [name for name in (tasks or "").split(",") if name.strip()]
    if tasks is not None and not names:
        raise RequestError("--tasks: names no task")
    asked = outside.Request(target, texts or (), against, names, include, allow_code, context, stride, field)
    found = outside.evaluate(asked)
    if as_json:
        show_json(found)
    else:
        from gemmule.evaluate.showing import show as show_figures

        show_figures(found)


RESUMABLE.add("evaluate")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", parser=_named, help="a run folder, finished or not")],
) -> None:
    """Writes a run's report.html, whether the run is finished, running or interrupted."""
    from gemmule.run import runner

    show(f"Open {runner.report(folder)}")


@app.command()
def estimate(
    recipe: RecipePath = DEFAULT_RECIPE,
    overrides: Overrides = None,
    out: Out = None,
    on: Annotated[list[str] | None, typer.Option("--on", metavar="GPU", help="also on this GPU, such as h100")] = None,
    as_json: AsJson = False,
) -> None:
    """What a recipe will take, before anything runs: parameters, FLOPs, memory, disk and time."""
    from gemmule import recipe as recipes
    from gemmule.estimate import accelerators, tables
    from gemmule.estimate.whole import estimate as estimate_recipe
    from gemmule.plan.plan import Plan

    gpus = [accelerators.accelerator(name) for name in on or ()]
    plan = Plan(recipes.read(recipe, overrides or ()), recipe, out)
    found = estimate_recipe(plan)
    if as_json:
        show_json(tables.as_json(plan, found, gpus), indent=2)
    else:
        tables.show(plan, found, gpus)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(parser=_named, metavar="PATH", help="a folder that gemmule made")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """What an artifact is and was made from; verifies it."""
    from gemmule.run.inspection import describe, inspect_path

    found = inspect_path(path)
    if as_json:
        show_json([artifact.__dict__ for artifact in found], indent=2)
    else:
        show(describe(found))


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="a model folder or hub id")],
    prompt: Annotated[str, typer.Argument(help="the text to continue")],
    max_new_tokens: Annotated[
        int, typer.Option(parser=_whole, metavar="N", help="how many tokens to generate at most")
    ] = 100,
    temperature: Annotated[
        float, typer.Option(parser=_number, metavar="X", help="0: greedy, always the most likely token")
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option(parser=_whole, metavar="K", help="sample from the k most likely tokens")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            parser=_number, metavar="P", help="sample from the most likely tokens that make up this probability"
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            parser=_number, metavar="P", help="drop tokens below this fraction of the most likely token's probability"
        ),
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(parser=_number, metavar="X", help="above 1: tokens already in the text become less likely")
    ] = 1.0,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="stop before this text; may be repeated")
    ] = None,
    seed: Annotated[int, typer.Option(parser=_whole, metavar="N", help="random seed of sampling")] = 0,
    as_json: AsJson = False,
) -> None:
    """Streams a prompt and what a model makes of it."""
    from gemmule.recipe import generation as settings

    sampling: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
    for name, value in sampling.items():  # before a model is loaded
        settings.check(name, value, settings.option(name))
    with signals.deferred():
        import gemmule.model.weights  # imports torch
    sampling["stop"] = stop or []
    tokenizer, weights = gemmule.load_tokenizer(model), gemmule.load(model)
    if as_json:
        text = gemmule.generate(weights, tokenizer, prompt, **sampling)
        show_json({"model": model, "prompt": prompt, "text": text, **sampling})
        return
    pieces = gemmule.generate(weights, tokenizer, prompt, stream=True, **sampling)
    for piece in chain([prompt], pieces, ["\n"]):
        show(piece, end="")


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="a model folder, hub id or GGUF file")],
    out: Annotated[Path, typer.Argument(metavar="OUT", parser=_named, help="the model folder to make")],
    as_json: AsJson = False,
) -> None:
    """Makes a model folder of any Gemma 2."""
    with signals.deferred():
        from gemmule.convert.importing import import_model  # imports torch

    _print_written(import_model(source, out), as_json)


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a model folder or hub id")],
    out: Annotated[Path, typer.Argument(metavar="OUT", parser=_named, help="the folder (hf) or file (gguf) to make")],
    format: Annotated[str, typer.Option(help="hf (for transformers, vLLM) or gguf (for llama.cpp, Ollama)")],
    type: Annotated[str | None, typer.Option(help=TYPES_HELP)] = None,
    as_json: AsJson = False,
) -> None:
    """Writes a model for other programs."""
    with signals.deferred():
        from gemmule.convert.exporting import export_model  # imports torch

    _print_written(export_model(model, out, format, type), as_json)


def _print_written(written: Any, as_json: bool) -> None:
    if as_json:
        show_json(written.__dict__)
        return
    show(f"{written.path}: {written.parameters:,} parameters in {written.type}, {written.bytes / 1e6:,.1f} MB")
    for note in written.notes:
        show(f"  {note}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="; ".join(f"{k}: {v}" for k, v in studies().items()))],
    scale: Annotated[str | None, typer.Option(help="small (minutes on two cores), medium or large")] = None,
    seeds: Annotated[
        int | None, typer.Option(parser=_whole, metavar="N", help="how many trainings of each model")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=_named, metavar="DIR", help="where its runs and findings go")
    ] = None,
) -> None:
    """An experiment of the paper in miniature."""
    from gemmule.recipe.errors import unknown_name

    if name not in studies():
        raise RequestError(unknown_name(name, studies(), "study"))

    from rich.console import Console

    Console().print(run_study(name, scale=scale, seeds=seeds, out=out))


if __name__ == "__main__":
    main()
