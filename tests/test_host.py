"""The settings of the process, each in a fresh one."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
if sys.argv[1] == "settled":
    from gemmule import host
    host.settle()
import torch
torch.set_num_threads(1)
def step():
    for millions in (12, 20, 28):  # a forward and backward pass on 50 to 110 MB
        x = torch.ones(millions * 2**18, requires_grad=True)
        ((x * 2).tanh() * 3).sum().backward()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_freed_memory_is_kept_for_the_next_step():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def faults(how, **more):
        run = subprocess.run(
            [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, env=environment | more
        )
        return int(run.stdout)

    kept = faults("settled")
    assert faults("as it is") > 4 * kept + 10_000
    assert faults("settled", MALLOC_TRIM_THRESHOLD_="131072") > 4 * kept + 10_000  # what the user set stays


def test_the_command_line_settles_how_threads_wait():
    code = "import sys; sys.argv = ['gemmule', '--version']\nimport os\nfrom gemmule.cli import main\ntry: main()\n"
    code += "except SystemExit: pass\nprint(os.environ['GOMP_SPINCOUNT'])"
    for given, kept in (({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert run.stdout.split()[-1] == kept
