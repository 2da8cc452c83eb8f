"""How the first of several processes leads the others; and that one process knows nothing of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from processes import in_processes

from gemmule.base import progress, ranks


def test_one_process_is_rank_0_of_1_and_imports_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # left over from something else
    assert (ranks.rank(), ranks.size()) == (0, 1)
    with ranks.led(), ranks.together("work"):
        pass
    assert ranks.may_speak()
    code = "import sys; from gemmule.base import ranks\nwith ranks.led(): pass\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_others_do_what_rank_0_calls_for_and_leave_with_its_status():
    def work():
        done = []
        try:
            with ranks.led():
                if ranks.rank() == 0:
                    for task in ("a", "b"):
                        with ranks.together(task):
                            done.append(task)
                    raise SystemExit(3)
                done += ranks.calls()
        except SystemExit as leaving:
            return leaving.code, done, progress.console.quiet
        return None

    first, *others = in_processes(3, work)
    assert first == (3, ["a", "b"], False)
    for status, done, quiet in others:
        assert (status, done, quiet) == (3, ["a", "b"], True)


@pytest.mark.parametrize(("ends", "status"), [(None, 0), (SystemExit(2), 2), (KeyboardInterrupt(), 1), (OSError(), 1)])
def test_others_that_are_never_called_leave_too(ends, status):
    def work():
        try:
            with ranks.led():
                if ends is not None:
                    raise ends
        except SystemExit as leaving:
            return leaving.code
        except (KeyboardInterrupt, OSError):
            return 1
        return 0

    assert in_processes(2, work) == [status, status]


def test_of_those_that_fail_one_speaks():
    assert sorted(in_processes(3, ranks.may_speak)) == [False, False, True]
