"""A study is a file in studies/: its name and help are found there, and `gemmule study` runs it."""

from __future__ import annotations

import os
import subprocess
import sys

from gemmule import studies

TOY = '''"""Whether a toy is found.

More of it.
"""


def run(seeds=1):
    return f"the toy ran {seeds} times"
'''
MAIN = """
import sys
import gemmule.studies
gemmule.studies.__path__.append(sys.argv.pop())
from gemmule.cli import main
main()
"""


def test_the_studies_that_there_are():
    assert studies.studies() == {
        "refined-or-raw": "What the refinery does for a student: raw or refined text, with a teacher and without",
        "soft-caps": "What holds attention and logits when the learning rate is too high",
    }


def test_a_study_is_a_file(tmp_path):
    (tmp_path / "of_a_toy.py").write_text(TOY)

    def gemmule(*arguments):
        call = [sys.executable, "-c", MAIN, "study", *arguments, str(tmp_path)]
        return subprocess.run(call, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})

    assert "of-a-toy:Whetheratoyisfound" in "".join(gemmule("--help").stdout.split())  # lines break at hyphens too
    assert gemmule("of-a-toy").stdout == "the toy ran 1 times\n"
    assert gemmule("of-a-toy", "--seeds", "3").stdout == "the toy ran 3 times\n"
    refused = gemmule("of-a-toy", "--scale", "small")
    assert refused.returncode == 2
    assert "of-a-toy has no such option" in refused.stderr
    refused = gemmule("of-a-boy")
    assert refused.returncode == 2
    assert "of-a-toy" in refused.stderr
