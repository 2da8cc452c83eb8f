"""Tasks of EleutherAI's lm-evaluation-harness (`gemmule[eval]`): its own, and those of a folder of one's own.

The numbers are lm-eval's, under its keys, for any model that gives whole distributions (`lm.py` is how it is
asked). What lm-eval runs on the way is held to what gemmule holds itself to:

- Nothing from a folder of tasks runs as code, Jinja templates included, unless that is allowed.
- Progress and complaints go where gemmule's do, and nothing is printed on stdout.
- The random generators of the process are left as they were.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import logging
import math
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemmule.base.errors import GemmuleError, RequestError, WorkError, first_line
from gemmule.base.progress import say

if TYPE_CHECKING:
    from gemmule.teach.teachers.teacher import Teacher
    from gemmule.tokenize.tokenizer import Tokenizer

SEED, FEWSHOT_SEED = 0, 1234  # lm-eval's own: of Python's generator, and of all others
NAMES = {"name", "alias"}  # of a task, among its metrics


def check_tasks(tasks: Sequence[str], include: Path | None = None, *, allow_code: bool = False) -> None:
    """Looks for the tasks, before any work. No data is fetched, and no code of a folder is run.

    Raises RequestError naming a task that is not there, a folder without tasks, and a file that would run code.
    """
    with _among_ours(allow_code):
        _find(tasks, include, allow_code)


def run_tasks(
    model: Teacher,
    tokenizer: Tokenizer,
    context: int,
    tasks: Sequence[str],
    include: Path | None = None,
    *,
    limit: int | None = None,
    allow_code: bool = False,
) -> dict[str, dict[str, Any]]:
    """What lm-eval measures of a model on some tasks, by their names: {"arc_easy": {"acc,none": 0.25, ...}}.

    A group of tasks has its own entry, if it has numbers, beside those of its tasks. Strict JSON: what is not known, as
    an error of one answer, is None.

    Args:
        context: tokens that the model reads at most, `<bos>` among them.
        tasks: names of tasks, groups or tags, or patterns ("mmlu_*").
        include: a folder of one's own task files.
        limit: of each task's questions only the first so many.
        allow_code: runs what the folder's files name as code, and tasks that run what the model writes.

    Raises RequestError as `check_tasks` does, where a task can't be loaded, and where it needs what is not here:
    sampled answers, pictures, continuations longer than the context; WorkError where lm-eval fails over a task.
    """
    with _among_ours(allow_code):
        manager, names = _find(tasks, include, allow_code)
        try:
            loaded = manager.load(names)
        except Exception as error:  # lm-eval and datasets raise what they come across
            raise RequestError(
                f"{', '.join(tasks)}: lm-evaluation-harness can't load it: {first_line(error)}"
            ) from error
        for name, task in loaded["tasks"].items():
            _check(name, task, allow_code)
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        from lm_eval.evaluator import evaluate

        from gemmule.evaluate.harness.lm import TeacherLM

        asked = TeacherLM(model, tokenizer, context)
        try:
            found = evaluate(asked, loaded, limit=limit, log_samples=False, confirm_run_unsafe_code=allow_code)
        except (GemmuleError, MemoryError):
            raise
        except Exception as error:
            raise WorkError(
                f"{', '.join(tasks)}: lm-evaluation-harness failed: {type(error).__name__}: {first_line(error)}"
            ) from error
    results = {
        name: {key: _plain(value) for key, value in metrics.items() if key not in NAMES and key.strip()}
        for name, metrics in found["results"].items()
    }
    return {name: metrics for name, metrics in results.items() if metrics}


def _find(tasks: Sequence[str], include: Path | None, allow_code: bool) -> tuple[Any, list[str]]:
    """The manager of lm-eval that knows the tasks, and their names.

    Its own are thousands of files, which take seconds: they are left aside where the folder has all that is needed.
    """
    files: list[Path] = []
    if include is not None:
        from lm_eval.api.metrics import mean  # noqa: F401  # fills the registry
        from lm_eval.api.registry import METRIC_REGISTRY

        from gemmule.evaluate.harness.files import refuse_code, task_files

        files = task_files(include)
        if not allow_code:
            package = importlib.util.find_spec("lm_eval")
            assert package is not None
            assert package.submodule_search_locations is not None
            refuse_code(files, METRIC_REGISTRY, Path(package.submodule_search_locations[0]).resolve() / "tasks")
        state = tuple((file, file.stat().st_mtime_ns) for file in files)
        own = _manager(include, state, defaults=False)
        if all(own.match_tasks([name]) for name in tasks) and _is_closed(own.task_index):
            return own, _matching(own, tasks, allow_code)
    else:
        state = ()
    manager = _manager(include, state, defaults=True)
    for name in tasks:
        if not manager.match_tasks([name]):
            near = difflib.get_close_matches(name, manager.all_tasks, 3)
            raise RequestError(
                f"{name}: no such task in lm-evaluation-harness{'' if include is None else f' or {include}'}"
                f"{'; near: ' + ', '.join(near) if near else ''}. `lm-eval ls tasks` lists its own; "
                "--include DIR adds yours"
            )
    return manager, _matching(manager, tasks, allow_code)


def _matching(manager: Any, tasks: Sequence[str], allow_code: bool) -> list[str]:
    names: list[str] = manager.match_tasks(list(tasks))
    for name in names:
        _refuse_unsafe(name, (manager.task_index[name].cfg or {}).get("unsafe_code", False), allow_code)
    return names


def _refuse_unsafe(name: str, unsafe: bool, allow_code: bool) -> None:
    if unsafe and not allow_code:
        raise RequestError(f"{name}: runs code that the model writes: allow it with --allow-code")


@functools.lru_cache(maxsize=2)
def _manager(include: Path | None, state: tuple[tuple[Path, int], ...], defaults: bool) -> Any:
    """`state`: of the folder's files, by which another one is made when they have changed."""
    from lm_eval.tasks import TaskManager

    if defaults:
        say("looking through lm-evaluation-harness's own tasks")
    return TaskManager(include_path=None if include is None else str(include), include_defaults=defaults)


def _is_closed(index: Mapping[str, Any]) -> bool:
    """Whether groups name only tasks of the same folder."""
    for entry in index.values():
        members = (entry.cfg or {}).get("task")
        for member in members if isinstance(members, list) else ():
            name = member if isinstance(member, str) else member.get("group", member.get("task"))
            if name not in index and (isinstance(member, str) or not {"dataset_path", "group"} & member.keys()):
                return False
    return True


def _check(name: str, task: Any, allow_code: bool) -> None:
    from gemmule.evaluate.harness.lm import writing

    _refuse_unsafe(name, getattr(task, "UNSAFE_CODE", False), allow_code)
    if getattr(task, "MULTIMODAL", False):
        raise RequestError(f"{name}: asks about pictures or sound; gemmule's models read text")
    if task.OUTPUT_TYPE == "generate_until":
        try:
            writing(task.get_config("generation_kwargs") or {})
        except RequestError as error:
            raise RequestError(f"{name}: {error}") from None


@contextlib.contextmanager
def _among_ours(allow_code: bool) -> Iterator[None]:
    """Within this lm-eval can be used; it shows nothing of its own and leaves the process as it was."""
    try:
        import datasets  # noqa: F401
        import lm_eval.utils
    except ImportError as error:
        raise RequestError(
            f"tasks are lm-evaluation-harness's, which needs {error.name}: pip install 'gemmule[eval]'"
        ) from None
    from jinja2.sandbox import SandboxedEnvironment

    theirs = lm_eval.utils.env
    ours = SandboxedEnvironment(undefined=theirs.undefined, keep_trailing_newline=theirs.keep_trailing_newline)
    ours.filters = theirs.filters
    with (
        _quiet(),
        _seeded(),
        _set(lm_eval.utils, "env", theirs if allow_code else ours),
        # a bootstrap's processes would have our handlers of signals; without them its numbers are the same
        _variable("DISABLE_MULTIPROC", "1"),
    ):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import datasets
    from tqdm import tqdm

    logger, said, verbosity = logging.getLogger("lm_eval"), _Said(logging.ERROR), datasets.logging.get_verbosity()
    bars = not datasets.are_progress_bars_disabled()
    with (
        contextlib.redirect_stdout(sys.stderr),
        _set(tqdm, "__init__", functools.partialmethod(tqdm.__init__, disable=True)),
        _set(logger, "propagate", False),
        _set(logger, "handlers", [said]),
    ):
        datasets.logging.set_verbosity_error()
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            datasets.logging.set_verbosity(verbosity)
            if bars:
                datasets.enable_progress_bars()


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """With lm-eval's own seeds, and afterwards as if nobody had drawn."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()  # noqa: NPY002  # tasks draw from these
    random.seed(SEED)
    np.random.seed(FEWSHOT_SEED)  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(FEWSHOT_SEED)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ.update({} if before is None else {name: before})


@contextlib.contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"lm-evaluation-harness: {record.getMessage()}")


def _plain(value: Any) -> Any:
    """As strict JSON has it."""
    if hasattr(value, "item"):  # NumPy's
        value = value.item()
    if value == "N/A" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
