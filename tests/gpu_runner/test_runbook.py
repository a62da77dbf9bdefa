"""The runbook and the units name what there is, and all of it."""

import re
import typing
from pathlib import Path

import pytest
import typer.main

from gpu_runner.cli import EXIT_STORE_FAILED, Exit, app
from gpu_runner.cli_pool import COMMANDS
from gpu_runner.jobs import Unserved
from gpu_runner.keeping import KEPT_DAYS, MOST_EVENTS
from gpu_runner.leases import PoolPlan
from gpu_runner.operations import Surveyed

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PROTOCOL = (ROOT / "gpu_runner" / "PROTOCOL.md").read_text()
UNITS = sorted((ROOT / "docs" / "systemd").glob("*.service"))
KNOWN = typer.main.get_command(app)


def options(command):
    return {name for param in KNOWN.commands[command].params for name in param.opts}  # type: ignore[attr-defined]  # a group


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_with_options_that_it_has(unit):
    text = unit.read_text().replace("\\\n", " ")
    (started,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    command = re.split(r"gpu_runner\.cli\s+", started)[1].split()[0]
    assert set(re.findall(r"--[a-z-]+", started)) <= options(command)


def test_the_units_know_the_exit_codes():
    broker, worker = (unit.read_text() for unit in UNITS)
    assert f"{EXIT_STORE_FAILED} is a database that failed" in broker
    assert f"RestartPreventExitStatus={Exit.UNSERVED:d}" in worker


def test_every_command_of_an_operator_is_in_the_runbook():
    assert [c.__name__ for c in COMMANDS if f"`{c.__name__}" not in RUNBOOK] == []


def test_every_cause_has_a_remedy():
    causes = typing.get_args(Unserved.model_fields["cause"].annotation)
    assert set(re.findall(r"^\| `([a-z_]+)` \|", RUNBOOK, re.MULTILINE)) >= set(causes)


def test_what_is_watched_is_in_the_state():
    table = RUNBOOK.partition("## The database failed")[0]
    watched = re.findall(r"^\| `([a-z_]+)[\[`]", table, re.MULTILINE)
    assert watched
    assert set(watched) <= Surveyed.model_fields.keys()


def test_alarms_lead_to_sections():
    titles = {
        title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([a-z-]+)\)", RUNBOOK)) <= titles


def test_limits_are_those_of_the_code():
    plan = PoolPlan(epoch=1)
    given = {param.name: param.default for param in KNOWN.commands["broker"].params}  # type: ignore[attr-defined]  # a group
    assert given["most_jobs"] == plan.most_live
    assert given["most_of_session"] == plan.most_of_session
    for text in (RUNBOOK, PROTOCOL):
        assert f"{plan.most_live:,} unfinished jobs" in text
        assert f"{plan.most_of_session:,} of " in text
        assert f"{MOST_EVENTS:,}" in text
    assert f"kept for {KEPT_DAYS:.0f} days" in PROTOCOL
    assert f"for {plan.most_drain_s:.0f} s at a time" in PROTOCOL
