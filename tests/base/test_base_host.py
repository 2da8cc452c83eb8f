"""The settings of the process, each in a fresh one."""

import os
import subprocess
import sys

import pytest

UNSET = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
KEPT = """
import ctypes, sys
if sys.argv[1] == "settled":
    from gemmule.base import host
    host.settle()
libc = ctypes.CDLL(None)
libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
before = libc.sbrk(0)
libc.free(ctypes.c_void_p(libc.malloc(28 * 2**20)))  # as a tensor that is freed at once
print(libc.sbrk(0) - before)
"""


GIVEN_BACK = """
from pathlib import Path
from gemmule.base import host
host.settle()
import torch

def held():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024

before = held()
many = [torch.ones(2**18) for _ in range(64)]  # 64 MB
kept = torch.ones(100)  # lies above them
del many
print(held() - before)
host.give_back()
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_what_is_kept_can_be_given_back():
    command = [sys.executable, "-c", GIVEN_BACK]
    kept, left = subprocess.run(command, capture_output=True, text=True, check=True, env=UNSET).stdout.split()
    assert int(kept) > 60 * 2**20
    assert int(left) < 8 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_freed_memory_is_kept_for_the_next_step():
    def kept(how, **more):
        run = subprocess.run(
            [sys.executable, "-c", KEPT, how], capture_output=True, text=True, check=True, env=UNSET | more
        )
        return int(run.stdout)

    assert kept("settled") >= 28 * 2**20
    assert kept("as it is") < 2**20
    assert kept("settled", MALLOC_TRIM_THRESHOLD_="131072") < 2**20  # what the user set stays


def test_the_command_line_settles_how_threads_wait():
    code = "import sys; sys.argv = ['gemmule', '--version']\nimport os\nfrom gemmule.cli import main\ntry: main()\n"
    code += "except SystemExit: pass\nprint(os.environ['GOMP_SPINCOUNT'])"
    for given, kept in (({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert run.stdout.split()[-1] == kept
