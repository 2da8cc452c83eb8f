"""README and docs say what is there: commands parse, files exist, signatures are the code's."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

import gemmule
from gemmule import cli, recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS = typer.main.get_command(cli.app).commands


def commands(page: Path) -> list[str]:
    """The command lines of gemmule that a page shows, in blocks and in sentences."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^(?:    )+(gemmule [^#\n]*)", text, re.MULTILINE)
    return [*blocks, *re.findall(r"`(gemmule [a-z][^`]*)`", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    for command in commands(page):
        name, *arguments = shlex.split(command.replace("...", ""))[1:]
        assert name in VERBS, command
        options = [argument.split("=")[0] for argument in arguments if argument.startswith("--")]
        known = {option for parameter in VERBS[name].params for option in parameter.opts}
        assert set(options) <= {*known, "--help", "--debug"}, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_readme_links_every_page_of_docs():
    linked = set(re.findall(r"\]\((docs/[^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def readme_section(title: str) -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_layout_names_every_folder_and_nothing_else():
    listed = set(re.findall(r"^      ([\w]+(?:/|\.py)) ", readme_section("How it is organised"), re.MULTILINE))
    folders = {f"{path.name}/" for path in (ROOT / "gemmule").iterdir() if (path / "__init__.py").exists()}
    assert folders <= listed
    for name in listed:
        assert (ROOT / "gemmule" / name).exists(), name


def test_the_recipe_is_complete():
    block = re.search(r'((?:    .*\n|\n)*    name = "mine"\n(?:    .*\n|\n)+)', readme_section("Your own text"))
    assert block is not None
    written = "\n".join(line[4:] for line in block[1].splitlines())
    parsed = recipe.parse(tomllib.loads(written[written.index("name = ") :]))
    assert list(parsed.models) == ["teacher", "student", "control"]


def test_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(re.findall(r'"\.\[(\w+)\]"', readme_section("Install"))) == {*project["optional-dependencies"]} - {"dev"}


def test_signatures_are_the_codes():
    section = readme_section("Using what you made")
    for name in ("load", "load_tokenizer", "generate", "losses.forward_kl"):
        shown = re.search(rf"`gemmule\.{re.escape(name)}\((.*?)\)(?: ->[^`]*)?`", section)
        assert shown is not None, name
        function = gemmule
        for part in name.split("."):
            function = getattr(function, part)
        code = inspect.signature(function)
        written = [part.strip() for part in re.split(r", (?![^(]*\))", shown[1])]
        plain = [
            parameter.replace(annotation=inspect.Parameter.empty, default=parameter.default)
            for parameter in code.parameters.values()
        ]
        expected = str(inspect.Signature(plain))[1:-1].replace("'", '"')
        assert ", ".join(written) == expected, name
