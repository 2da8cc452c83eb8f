"""`gemmule refine` with a section [refine]: made, counted, explained, changed, interrupted, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from made_text import make_text
from pyarrow.parquet import read_table

from gemmule.base import artifact

RECIPE = """
name = "r"
[data]
sources = ["new.jsonl"]
[refine]
quality = false
{lines}
[tokenizer]
vocabulary_size = 300
[models.m]
architecture = {{ layers = 1, width = 16, heads = 2 }}
train = {{ tokens = "1k" }}
"""


@pytest.fixture
def refinery(tmp_path):
    """Writes a recipe with some lines of [refine] beside 60 documents, five of which stand twice."""
    texts = [make_text(seed, 40) for seed in range(60)]
    write(tmp_path / "new.jsonl", [*texts, *texts[:5]])
    write(tmp_path / "old.jsonl", [make_text(99, 40), texts[7]])

    def with_lines(*lines):
        (tmp_path / "recipe.toml").write_text(RECIPE.format(lines="\n".join(lines)))
        return tmp_path / "recipe.toml"

    return with_lines


def write(file, texts):
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def record(out):
    return {step["name"]: step for step in json.loads((out / "documents" / "refinery.json").read_text())["steps"]}


def test_what_is_dropped_is_counted_named_and_gone(run, refinery, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("refine", refinery('minus = ["old.jsonl"]'), "--out", out) == 0
    said = capsys.readouterr().err
    assert "exact_duplicates" in said
    assert f"Open {out / 'documents' / 'refinery.html'}" in said
    steps = record(out)
    assert steps["exact_duplicates"]["documents_in"] == 65
    assert steps["exact_duplicates"]["dropped"][0] == {
        "source": "new.jsonl", "position": 61, "reason": "the same text", "matched": "new.jsonl:1"
    }  # fmt: skip
    assert [drop["matched"] for drop in steps["minus"]["dropped"]] == ["old.jsonl:2"]
    documents = read_table(out / "documents" / "documents.parquet")
    assert documents.column_names == ["text", "source", "position", "split"]
    assert sorted(documents["position"].to_pylist()) == [n for n in range(1, 61) if n != 8]
    assert "new.jsonl" in (out / "documents" / "refinery.html").read_text()
    assert not list(out.glob(".documents*"))
    assert run("inspect", out / "documents") == 0


def test_the_runs_report_links_to_the_refinerys_page(run, refinery, tmp_path):
    out = tmp_path / "run"
    assert run("tokenize", refinery(), "--out", out) == 0
    assert run("report", out) == 0
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "65 documents in, 60 out" in report
    assert '<a href="documents/refinery.html">' in report
    assert (out / "documents" / "refinery.html").is_file()


def test_another_line_of_refine_needs_no_remake_until_a_model_has_learned(run, refinery, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("tokenize", refinery(), "--out", out) == 0
    assert run("refine", refinery("duplicates = false"), "--out", out) == 0
    assert "exact_duplicates" not in record(out)
    assert {path.name for path in (out / "old").iterdir()} == {"documents-1", "tokenizer-1", "tokens"}
    assert run("train", refinery("duplicates = false"), "--out", out) == 0
    capsys.readouterr()
    assert run("refine", refinery(), "--out", out) == 2
    assert "refine.duplicates: false -> true" in capsys.readouterr().err
    (tmp_path / "new.jsonl").write_bytes((tmp_path / "old.jsonl").read_bytes())
    assert run("refine", refinery("duplicates = false"), "--out", out) == 2
    assert "data.sources" in capsys.readouterr().err


def test_other_text_is_refused_though_no_model_has_learned(run, refinery, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("refine", refinery(), "--out", out) == 0
    (tmp_path / "new.jsonl").write_bytes((tmp_path / "old.jsonl").read_bytes())
    assert run("refine", refinery("duplicates = false"), "--out", out) == 2
    assert "Nothing was changed" in capsys.readouterr().err


def test_what_is_refined_twice_is_the_same_artifact(run, refinery, tmp_path):
    for name in ("one", "two"):
        assert run("refine", refinery(), "--out", tmp_path / name) == 0
    one, two = (artifact.read(tmp_path / name / "documents") for name in ("one", "two"))
    assert one.hash == two.hash
    assert "documents.parquet" in one.manifest.files
    assert "refinery.json" not in one.manifest.files


def test_a_dry_run_counts_and_makes_nothing(run, refinery, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("refine", refinery(), "--out", out, "--dry-run") == 0
    assert "exact_duplicates" in capsys.readouterr().out
    assert not out.exists()
    assert run("refine", refinery(), "--out", out, "--dry-run", "--json") == 0
    counted = json.loads(capsys.readouterr().out)
    assert run("refine", refinery(), "--out", out) == 0
    made = json.loads((out / "documents" / "refinery.json").read_text())
    for step in (*counted["steps"], *made["steps"]):
        del step["seconds"]
    assert counted == made


def test_a_document_is_explained_whether_or_not_it_is_made(run, refinery, tmp_path, capsys):
    out = tmp_path / "run"
    for made in (False, True):
        assert run("refine", refinery(), "--out", out, "--explain", tmp_path / "new.jsonl:62") == 0
        assert "new.jsonl:62: dropped by exact_duplicates: the same text; like new.jsonl:2" in capsys.readouterr().out
        assert run("refine", refinery(), "--out", out, "--explain", "new.jsonl:3") == 0
        assert "new.jsonl:3: kept" in capsys.readouterr().out
        assert out.exists() is made
        assert made or run("refine", refinery(), "--out", out) == 0
        capsys.readouterr()
    assert run("refine", refinery(), "--out", out, "--explain", "new.jsonl") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 65
    assert sum("dropped by" in line for line in lines) == 5


def test_what_was_cut_for_what_others_have_is_said_to_be_changed(run, refinery, tmp_path, capsys):
    passage = make_text(500, 80)
    write(tmp_path / "new.jsonl", [f"{make_text(seed, 60)} {passage * (seed in (3, 8))}" for seed in range(20)])
    recipe = refinery("duplicates = { substrings = 50 }")
    assert run("refine", recipe, "--out", tmp_path / "run") == 0
    for number, outcome in ((4, "kept as it is"), (9, "kept, changed by substrings")):
        capsys.readouterr()
        assert run("refine", recipe, "--out", tmp_path / "run", "--explain", f"new.jsonl:{number}") == 0
        assert f"new.jsonl:{number}: {outcome}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--explain", "no.jsonl:1"), "no source of this recipe; it reads new.jsonl"),
        (("--explain", "new.jsonl:1000"), "no document there; the one before it is new.jsonl:65"),
        (("--explain", "new.jsonl:1", "--dry-run"), "--dry-run: not with --explain"),
        (("--dry-run", "--remake"), "--remake: not with --dry-run"),
        (("--json",), "--json: for --dry-run"),
    ],
)
def test_what_can_not_be_explained_is_refused(run, refinery, tmp_path, capsys, arguments, said):
    assert run("refine", refinery(), "--out", tmp_path / "run", *arguments) == 2
    assert said in capsys.readouterr().err


def test_without_a_section_text_is_taken_as_it_stands(run, refinery, tmp_path, capsys):
    recipe = refinery()
    recipe.write_text(recipe.read_text().replace("[refine]\nquality = false\n", ""))
    out = tmp_path / "run"
    assert run("refine", recipe, "--out", out) == 0
    assert sorted(path.name for path in (out / "documents").iterdir()) == [
        "documents.parquet", "manifest.json", "summary.json"
    ]  # fmt: skip
    assert run("refine", recipe, "--out", out, "--dry-run") == 2
    assert "this recipe has no [refine]" in capsys.readouterr().err


def test_a_function_of_the_users_runs_only_where_that_is_allowed(run, refinery, tmp_path, capsys):
    (tmp_path / "own_rules.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_name('ran').touch()\n"
        "def keep(text):\n    return text.position != 5 and isinstance(text, str) and text.source == 'new.jsonl'\n"
    )
    recipe, out = refinery('keep = "own_rules:keep"'), tmp_path / "run"
    for verb in (("refine",), ("run",), ("refine", "--dry-run"), ("refine", "--explain", "new.jsonl:5")):
        assert run(verb[0], recipe, "--out", out, *verb[1:]) == 2
        assert "add --allow-code" in capsys.readouterr().err
    run("estimate", recipe)
    assert not (tmp_path / "ran").exists()
    assert run("refine", recipe, "--out", out, "--allow-code") == 0
    assert [(drop["position"], drop["reason"]) for drop in record(out)["keep"]["dropped"]] == [
        (5, "own_rules:keep returned False")
    ]
    assert (tmp_path / "ran").exists()
    (tmp_path / "no_rules.py").write_text("def keep(text):\n    return None\n")
    assert run("refine", refinery('keep = "no_rules:keep"'), "--out", out, "--allow-code") == 1
    assert "no_rules:keep returned None, at new.jsonl:1: True or False" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "said"),
    [("own_rules", 'is written as "module:function"'), ("nowhere_else:keep", "no module nowhere_else")],
)
def test_a_function_that_is_not_there_is_refused_before_work(run, refinery, tmp_path, capsys, named, said):
    assert run("refine", refinery(f'keep = "{named}"'), "--out", tmp_path / "run", "--allow-code") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_where_all_is_dropped_nothing_is_made(run, refinery, tmp_path, capsys):
    out = tmp_path / "run"
    write(tmp_path / "old.jsonl", [make_text(seed, 40) for seed in range(60)])
    assert run("refine", refinery('minus = ["old.jsonl"]'), "--out", out) == 2
    said = capsys.readouterr().err
    assert "no document is left of 65: the last 60 were dropped by minus" in said
    assert not (out / "documents").exists()


def test_a_killed_refining_is_resumed(refinery, tmp_path):
    """It stands still in its second batch, is killed there, and goes on from the first's end."""
    texts = [make_text(seed, 4000) for seed in range(200)]
    write(tmp_path / "new.jsonl", texts)
    (tmp_path / "slow_rules.py").write_text(
        "import time\nfrom pathlib import Path\n"
        "def keep(text):\n"
        "    if text.position == 150 and not Path(__file__).with_name('go').exists():\n"
        "        time.sleep(600)\n"
        "    return True\n"
    )
    recipe = refinery('keep = "slow_rules:keep"', "duplicates = false", 'personal_data = "keep"')
    recipe.write_text(recipe.read_text() + "[machine]\nprocesses = 2\n")
    command = [sys.executable, "-m", "gemmule", "refine", recipe, "--allow-code"]
    work = tmp_path / "runs" / "r" / ".documents.refining"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not list(work.glob("00/*.json")) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    before = {file: file.stat().st_mtime_ns for file in work.glob("00/*.arrow")}
    assert before
    (tmp_path / "go").touch()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not work.exists()
    documents = read_table(tmp_path / "runs" / "r" / "documents" / "documents.parquet")
    assert documents["text"].to_pylist() == texts


def test_ctrl_c_leaves_what_the_same_command_goes_on_from(refinery, tmp_path):
    (tmp_path / "slow_rules.py").write_text("import time\ndef keep(text):\n    time.sleep(600)\n    return True\n")
    recipe = refinery('keep = "slow_rules:keep"')
    command = [sys.executable, "-m", "gemmule", "refine", recipe, "--allow-code"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "runs" / "r" / ".documents.refining" / "00").exists():
            time.sleep(0.05)
            assert process.poll() is None
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(20) == 130
    assert f"gemmule refine {recipe} --allow-code" in said
    assert os.listdir(tmp_path / "runs" / "r" / ".documents.refining")


def test_pages_are_read_by_the_workers_and_judged_by_their_main_text(run, refinery, tmp_path):
    recipe, out = refinery(), tmp_path / "run"
    recipe.write_text(recipe.read_text().replace('["new.jsonl"]', '["pages"]'))
    (tmp_path / "pages").mkdir()
    for number in range(4):
        paragraphs = "".join(f"<p>{make_text(10 * min(number, 2) + line, 60)}</p>" for line in range(5))
        (tmp_path / "pages" / f"{number}.html").write_text(
            f"<html><body><nav>Home | About | Log in</nav><article>{paragraphs}</article></body></html>"
        )
    assert run("refine", recipe, "--out", out) == 0
    assert [(drop["source"], drop["matched"]) for drop in record(out)["exact_duplicates"]["dropped"]] == [
        ("pages/3.html", "pages/2.html:0")
    ]
    texts = read_table(out / "documents" / "documents.parquet")["text"].to_pylist()
    assert len(texts) == 3
    assert not any("Log in" in text or "<p>" in text for text in texts)
