"""What is printed: whoever reads it, in whatever encoding, and whatever it holds."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import subprocess
import sys

import pytest

from gemmule.base import streams
from gemmule.base.progress import say

CODE = "import sys; from gemmule.base import streams; from gemmule.base.progress import say; streams.settle()\n"


def printed(code: str, **more: str) -> tuple[bytes, bytes]:
    """What a process prints into two pipes."""
    done = subprocess.run([sys.executable, "-c", CODE + code], capture_output=True, check=True, env=os.environ | more)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("\x1b[2J\x07\r\x7f\x00", r"\x1b[2J\x07\r\x7f\x00"),
        ("\x9b31m\u202egpj.exe\u2028", r"\x9b31m\u202egpj.exe\u2028"),
        ("name\udcff.txt \ud800", r"name\xff.txt \ud800"),
        ("é한🙂\u200f", "é한🙂\u200f"),
    ],
)
def test_what_could_change_a_terminal_is_escaped(text, shown, capsys):
    assert streams.printable(text) == shown
    say(text.replace("\ud800", ""))
    assert capsys.readouterr().err == shown.replace(r"\ud800", "").expandtabs() + "\n"


def test_messages_are_no_markup_and_no_emoji(capsys):
    say("a :warning: [bold]file[/bold] [/]")
    assert capsys.readouterr().err == "a :warning: [bold]file[/bold] [/]\n"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "ascii"])
def test_any_encoding_takes_any_text(encoding):
    code = "text = 'é ≈ 한 \\udcff'; say(text); streams.show(text); streams.show_json({'a': text, 'b': float('nan')})"
    out, err = printed(code, PYTHONIOENCODING=encoding)
    expected = "é ≈ 한 \udcff".encode(encoding, "backslashreplace")
    assert out.splitlines()[0] == expected
    assert err.rstrip() == "é ≈ 한 \\xff".encode(encoding, "backslashreplace")
    assert json.loads(out.splitlines()[1].decode(encoding)) == {"a": "é ≈ 한 \udcff", "b": None}


def test_results_are_exact_in_a_pipe_and_escaped_on_a_terminal():
    code = "streams.show('a\\x1b[2Jb\\x9b'); streams.show_json('a\\x9bé')"
    assert printed(code, PYTHONIOENCODING="utf-8")[0] == 'a\x1b[2Jb\x9b\n"a\x9bé"\n'.encode()
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", CODE + code], stdout=theirs, check=True)
    os.close(theirs)
    assert os.read(ours, 1000).replace(b"\r\n", b"\n") == b'a\\x1b[2Jb\\x9b\n"a\\u009b\\u00e9"\n'
    os.close(ours)


@pytest.fixture
def closed():
    """A descriptor of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_messages_that_nobody_reads_are_dropped(closed):
    stream = streams.Output(closed, droppable=True)
    assert stream.write(b"lost") == 4
    assert os.write(closed, b"and so is what others write there") > 0


def test_results_that_nobody_reads_end_the_command_quietly(closed):
    with pytest.raises(streams.Unread) as ended:
        streams.Output(closed, droppable=False).write(b"lost")
    assert ended.value.code == 0


def test_a_full_disk_takes_messages_and_not_results():
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        assert streams.Output(full, droppable=True).write(b"lost") == 4
        with pytest.raises(OSError, match="standard output") as failed:
            streams.Output(full, droppable=False).write(b"lost")
        assert failed.value.errno == errno.ENOSPC
    finally:
        os.close(full)


def test_what_a_pipe_takes_in_pieces_arrives_whole():
    code = "streams.show('x' * 10**6, end='')"
    assert printed(code)[0] == b"x" * 10**6


def test_a_closed_stream_gives_its_number_to_no_file():
    code = "import os; print(os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev, file=open(sys.argv[1], 'w'))"
    reading, writing = os.pipe()
    script = f'"{sys.executable}" -c "$0" /dev/fd/{writing} >&-'
    subprocess.run(["sh", "-c", script, CODE + code], pass_fds=[writing], check=True)
    os.close(writing)
    assert os.read(reading, 100) == b"True\n"
    os.close(reading)


def test_streams_that_someone_else_put_there_stay(monkeypatch):
    ours = io.StringIO()
    monkeypatch.setattr(sys, "stdout", ours)
    monkeypatch.setattr(sys, "stderr", ours)
    streams.settle()
    assert sys.stdout is sys.stderr is ours
