"""What is missing on Windows, taken away here: no fcntl, no os.sysconf, no SIGHUP, output in code page 1252."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Imported by Python itself at the start of each process.
TAKEN_AWAY = """
import os, signal, sys
MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in MODULES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Finder())
for name in ("sysconf", "getuid", "geteuid", "fork", "killpg", "setsid", "sched_getaffinity", "getloadavg"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "SIGSTOP", "SIGCONT"):
    if hasattr(signal, name):
        delattr(signal, name)
"""
VERBS = """
import sys
from gemmule import cli
for line in open(sys.argv[1], encoding="utf-8"):
    sys.argv = ["gemmule", *line.rstrip("\\n").split("\\t")]
    if sys.argv[1] == "estimate":
        from gemmule.estimate import measuring
        measuring.SECONDS = 0.5
    status = 0
    try:
        cli.main()
    except SystemExit as leaving:
        status = leaving.code or 0
    print("=>", status, flush=True)
"""
HOLDER = """
import sys
from pathlib import Path
from gemmule.base import locks
with locks.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def windows(tmp_path) -> dict[str, str]:
    """The environment of a process that is nearly on Windows."""
    folder = tmp_path / "windows"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(TAKEN_AWAY)
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    return os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}


def gemmule(windows: dict[str, str], folder: Path, *commands: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
    """Commands one after the other, in one process."""
    (folder / "commands").write_text("\n".join("\t".join(map(str, command)) for command in commands), encoding="utf-8")
    call = [sys.executable, "-W", "error::UserWarning:gemmule", "-c", VERBS, str(folder / "commands")]
    return subprocess.run(call, env=windows, capture_output=True, text=True, encoding="cp1252")


def test_every_verb_works(finished, recipe, windows, tmp_path):
    out, again = finished / "run", tmp_path / "run"
    final = out / "models" / "student" / "final"
    done = gemmule(
        windows,
        tmp_path,
        ("train", recipe, "--out", again, "--model", "control"),
        ("teach", recipe, "--out", again, "--worker", "1/1"),
        ("report", again),
        ("inspect", final),
        ("estimate", recipe),
        ("generate", final, "the kîng → 한", "--max-new-tokens", 3),
        ("export", final, tmp_path / "exported", "--format", "hf"),
        ("import", final, tmp_path / "imported"),
        ("run", finished / "tiny.toml", "--out", out),
        ("init", finished / "texts", "--out", tmp_path / "new.toml"),  # too little text
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("=>")] == ["=> 0"] * 9 + ["=> 2"], done.stderr
    assert "Traceback" not in done.stderr
    assert "the kîng \\u2192 \\ud55c" in done.stdout
    for name in ("teacher", "control"):
        file = Path("models") / name / "final" / "model.safetensors"
        assert not (again / file).exists() or (again / file).read_bytes() == (out / file).read_bytes()
    assert (again / "targets" / "teacher").is_dir()


def test_a_folder_is_held_by_one_process_and_freed_by_its_death(finished, windows, tmp_path):
    out, recipe = finished / "run", finished / "tiny.toml"
    call = [sys.executable, "-c", HOLDER, str(out)]
    holder = subprocess.Popen(call, env=windows, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        done = gemmule(windows, tmp_path, ("run", recipe, "--out", out))
        assert done.stdout == "=> 2\n", done.stderr
        assert f"{out} is in use by process {holder.pid}" in done.stderr
    finally:
        holder.kill()
        holder.wait()
    done = gemmule(windows, tmp_path, ("run", recipe, "--out", out))
    assert done.stdout == "=> 0\n", done.stderr
