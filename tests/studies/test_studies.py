"""A study is a file in studies/: its name and help are found there, and `gemmule study` runs it."""

from __future__ import annotations

import os
import subprocess
import sys

from gemmule import studies

TOY = '''"""Whether a toy is found.

More of it.
"""


def run():
    return "the toy ran"
'''
MAIN = """
import sys
import gemmule.studies
gemmule.studies.__path__.append(sys.argv.pop())
from gemmule.cli import main
main()
"""


def test_the_studies_that_there_are():
    assert studies.studies() == {"soft-caps": "What holds attention and logits when the learning rate is too high"}


def test_a_study_is_a_file(tmp_path):
    (tmp_path / "of_a_toy.py").write_text(TOY)

    def gemmule(*arguments):
        call = [sys.executable, "-c", MAIN, "study", *arguments, str(tmp_path)]
        return subprocess.run(call, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})

    assert "of-a-toy: Whether a toy is found" in gemmule("--help").stdout
    assert gemmule("of-a-toy").stdout == "the toy ran\n"
    refused = gemmule("of-a-boy")
    assert refused.returncode == 2
    assert "of-a-toy" in refused.stderr
