"""Work in other processes: results in order, whatever the number of processes and however they end."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from gemmule.base.errors import RequestError, WorkError
from gemmule.base.processes import Workers, cores


def slowly_squared(number):
    time.sleep(0.02 if number % 3 == 0 else 0.0)
    return number * number


def shout_and_square(number):
    print("noise on standard output")
    return number * number


def refuse_seven(number):
    if number == 7:
        raise RequestError("seven is refused")
    return number


def stumble(number):
    return 1 // (number - 3)


def die_at_four(number):
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def own_process(_):
    return os.getpid()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(count):
    with Workers(count) as workers:
        assert list(workers.in_order(slowly_squared, range(40))) == [number**2 for number in range(40)]
        assert list(workers.in_order(partial(pow, 2), iter([3, 1, 2]))) == [8, 2, 4]
        assert list(workers.in_order(slowly_squared, [])) == []


def test_several_processes_take_part():
    with Workers(3) as workers:
        processes = set(workers.in_order(own_process, range(30)))
    assert os.getpid() not in processes
    assert 1 < len(processes) <= 3


def test_one_process_is_this_one():
    with Workers(1) as workers:
        assert set(workers.in_order(own_process, range(3))) == {os.getpid()}


def test_what_is_printed_is_no_result():
    with Workers(2) as workers:
        assert list(workers.in_order(shout_and_square, range(5))) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_is_raised_here(count):
    with Workers(count) as workers:
        found = workers.in_order(refuse_seven, range(20))
        assert [next(found) for _ in range(7)] == list(range(7))
        with pytest.raises(RequestError, match="seven is refused"):
            next(found)


def test_a_fault_is_told_with_its_place():
    with Workers(2) as workers, pytest.raises(WorkError, match="ZeroDivisionError") as raised:
        list(workers.in_order(stumble, range(20)))
    assert "in stumble" in raised.value.__notes__[0]


def test_a_process_that_is_killed_is_said():
    with Workers(2) as workers, pytest.raises(WorkError, match="killed by signal 9"):
        list(workers.in_order(die_at_four, range(20)))


def test_it_takes_no_more_items_ahead_than_it_can_work_on():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with Workers(2) as workers:
        found = workers.in_order(slowly_squared, items())
        next(found)
        time.sleep(0.1)
        assert len(taken) <= 5


def test_they_end_with_this_process_however_it_ends():
    script = (
        "import sys, time\n"
        "from gemmule.base.processes import Workers\n"
        f"sys.path.append({str(Path(__file__).parent)!r})\n"
        "from test_base_processes import own_process\n"
        "with Workers(2) as workers:\n"
        "    print(*set(workers.in_order(own_process, range(8))), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        numbers = [int(word) for word in process.stdout.readline().split()]
        assert numbers
        process.kill()
    end = time.monotonic() + 20
    while any(map(alive, numbers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, numbers))


def alive(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_cores_are_those_that_this_process_may_use():
    assert cores() == len(os.sched_getaffinity(0))
