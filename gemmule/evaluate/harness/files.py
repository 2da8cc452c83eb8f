"""A folder of lm-evaluation-harness's task files: which there are, and whether they would run code.

lm-eval runs Python that a task file names (`!function`, which Python tasks are named by too), and Python from the hub
for a metric that it doesn't have itself. A file from elsewhere may be read only if it asks for neither.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from gemmule.base.errors import RequestError, first_line, shown

PLAIN = "tag:yaml.org,2002:"
TYPES = ("str", "int", "float", "bool", "null", "seq", "map", "timestamp", "merge", "value", "binary", "set", "omap")


def task_files(folder: Path) -> list[Path]:
    """The YAML files in it. Raises RequestError if there are none."""
    if not folder.is_dir():
        raise RequestError(f"{folder}: no such folder of tasks (--include)")
    found = sorted(file for file in folder.rglob("*.yaml") if "__pycache__" not in file.parts and file.is_file())
    if not found:
        raise RequestError(f"{folder}: no task there (--include): lm-evaluation-harness's tasks are .yaml files")
    return found


def refuse_code(files: list[Path], metrics: Container[str], trusted: Path) -> None:
    """Raises RequestError naming the first of `files`, or of those that they include, that would run code.

    Args:
        metrics: those that lm-eval has itself.
        trusted: the folder of lm-eval's own tasks, which may be included.
    """
    waiting, seen = [file.resolve() for file in files], set()
    while waiting:
        file = waiting.pop()
        if file in seen or trusted in file.parents:
            continue
        seen.add(file)
        for node in _nodes(_compose(file)):
            if node.tag not in {PLAIN + kind for kind in TYPES}:
                named = f" {shown(node.value)}" if isinstance(node, ScalarNode) else ""
                _refuse(file, node, f"{shown(node.tag)}{named} runs Python")
            for key, value in node.value if isinstance(node, MappingNode) else ():
                if key.value == "include":
                    names = value.value if isinstance(value, SequenceNode) else [value]
                    waiting += [(file.parent / name.value).resolve() for name in names if isinstance(name, ScalarNode)]
                if key.value == "metric_list" and isinstance(value, SequenceNode):
                    _refuse_metrics(file, value, metrics)


def _refuse_metrics(file: Path, entries: SequenceNode, metrics: Container[str]) -> None:
    for entry in entries.value:
        for key, value in entry.value if isinstance(entry, MappingNode) else ():
            from_hub = key.value == "hf_evaluate" and value.value.lower() != "false"
            if from_hub or (key.value == "metric" and isinstance(value, ScalarNode) and value.value not in metrics):
                name = f"{key.value}: {shown(value.value)}"
                _refuse(file, value, f"{name} is not lm-evaluation-harness's own, and runs Python from the hub")


def _refuse(file: Path, node: Node, why: str) -> None:
    line = node.start_mark.line + 1
    raise RequestError(f"{file}, line {line}: {why}: allow it with --allow-code if you trust its author")


def _compose(file: Path) -> Node | None:
    try:
        node: Node | None = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        why = getattr(error, "problem", None) or first_line(error)
        raise RequestError(f"{file}{where}: can't be read as YAML: {why}") from None
    return node


def _nodes(root: Node | None) -> Iterator[Node]:
    """Each once, though aliases may lead in circles."""
    waiting, seen = [root] if root is not None else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, SequenceNode):
            waiting += node.value
        elif isinstance(node, MappingNode):
            waiting += [part for pair in node.value for part in pair]
