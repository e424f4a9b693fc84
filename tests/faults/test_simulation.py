"""A long run, in short: the real trainer on a simulated machine, through faults of every kind."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from simulated.reference import Lineage
from support.forked import FORKED

UPDATES, OFTEN = 600, 8.0
"""Of the short form, and how much oftener faults come in it: of each kind there are some."""


def simulate(arguments: list[str], log: Path) -> None:
    """`python tests/simulation.py`, in a process of its own, which forks others."""
    from simulation import main

    with log.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        status = main(arguments)
    sys.exit(status)


def finish(arguments: list[str], log: Path) -> str:
    """Run a simulation to its end, which must be a good one. Returns what it said."""
    process = FORKED.Process(target=simulate, args=(arguments, log))
    process.start()
    process.join()
    assert process.exitcode == 0, log.read_text()[-4000:]
    return log.read_text()


def test_run_keeps_its_promises_on_a_simulated_machine(tmp_path: Path) -> None:
    """Pre-empted, out of disk, hung, asleep, without numbers: each update is learned once, in order, to the bit."""
    said = finish(["--updates", str(UPDATES), "--seed", "3", "--often", str(OFTEN)], tmp_path / "log")
    found = {
        what.strip(): value.split(";") for line in said.splitlines() if (what := line[:58]) and (value := line[58:])
    }
    assert int(found["alarms; roll-backs"][1]) == 2
    assert int(found["calls that a full disk refused"][0]) > 0
    assert all(int(number) for number in found["starts; ended by SIGTERM; killed; by an error"])


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_run_of_days_keeps_its_promises(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """`--faults 50`: 20,000 updates; the memory of a process that lives for 4,000 of them does not grow."""
    updates = str(400 * pytestconfig.getoption("--faults"))
    print(finish(["--updates", updates, "--seed", "2"], tmp_path / "log"))  # noqa: T201 - the figures


def test_lineage_tells_what_is_out_of_order() -> None:
    """An update left out, or learned twice: what the simulation looks for is noticed."""
    lineage = Lineage()
    assert [lineage.add(step, 0) for step in (1, 2, 3)] == [None] * 3
    assert "left out" in str(lineage.add(5, 0))
    assert "taken again" in str(lineage.add(5, 0))
    assert lineage.add(3, 1) is None  # the run went back to step 2
    assert lineage.courses == [0, 0, 1]
    assert lineage.cut(1) == 2
