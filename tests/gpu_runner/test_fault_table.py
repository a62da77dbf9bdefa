"""docs/bus-faults.md names a test for every fault, and the test is named after it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TABLE = (HERE.parents[1] / "docs" / "bus-faults.md").read_text()

FAULTS = {
    "worker killed, started again": ["worker_killed"],
    "worker killed for good": ["worker_that_is_gone"],
    "worker dies before or after its spool, or after it has sent an outcome": ["WorkerDies"],
    "broker killed, back within a lease": ["broker_killed"],
    "broker down for longer than a lease": ["BrokerDownForLongerThanALease"],
    "broker dies around any commit or send": ["CrashingBroker"],
    "broker without durability killed": ["broker_without_durability"],
    "everything killed": ["everything_dies"],
    "worker frozen for longer than its lease": ["worker_frozen_for_longer_than_its_lease"],
    "silent network partition": ["silent_network_partition"],
    "poison job that kills its worker": ["poison_job_that_kills_its_worker"],
    "client killed while it waits": ["client_killed_while_it_waits"],
    "two workers of one name in use": ["name_in_use"],
    "forged outcome of a rogue worker": ["forged_outcome"],
    "full disk under the broker": ["full_disk"],
    "slow dashboard, events dropped": ["slow_dashboard"],
    "listener revoked": ["revoked_listener"],
    "big artefact on a slow line": ["big_artefact_on_a_slow_line"],
    "blob server killed in a transfer": ["blob_server_killed_in_a_transfer"],
    "starvation of an exclusive job by shared ones": ["ExclusiveStarvation"],
    "malformed, oversized or flooding messages": ["malformed", "oversized", "flood"],
    "job hangs, forks or takes all memory": ["job_that_hangs", "daemons", "memory"],
    "GPU hangs or breaks": ["device_is_unhealthy"],
    "Ray node or launcher dies": ["ray_node_that_dies"],
    "chaos of all of these": ["nothing_is_lost_or_ends_twice"],
}
"""The faults that must not go missing, and the words of a test's name that say each of them."""


def rows():
    lines = re.findall(r"^\| (?!fault |---)(.*) \|$", TABLE, re.MULTILINE)
    cells = [line.split(" | ") for line in lines]
    return {row[0]: re.findall(r"`([^`]+)`", row[-1]) for row in cells}


@cache
def names_of(path):
    """Functions and classes that pytest collects, methods by their class."""
    found = set()
    for node in ast.parse((HERE / path).read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name):
                if any(getattr(part, "name", "").startswith("test_") for part in node.body):
                    found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute(attr="TestCase")):
                found.add(name)
            case _:
                pass
    return {name for name in found if name.lower().startswith("test")}


def test_every_fault_has_its_row():
    assert rows().keys() == FAULTS.keys()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faults_tests_exist_and_are_named_after_it(fault):
    named = [entry.partition("::") for entry in rows()[fault]]
    assert [f"{path}::{name}" for path, _, name in named if name not in names_of(path)] == []
    names = " ".join(name for _, _, name in named)
    assert [words for words in FAULTS[fault] if words not in names] == []
