"""The command `costs`: what the answers of a run cost. Reads its events alone."""

# An option is a parameter and a flag is a boolean one: that is how typer reads a command.
# ruff: noqa: FBT002

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from graph.costs import Cost
from graph.costs import costs as costs_of
from graph.runs import find_run
from graph.settings import load_settings


class _By(StrEnum):
    ROLE = "role"
    ROUND = "round"
    ATTEMPT = "attempt"


def costs(
    name: Annotated[
        str, typer.Argument(help="Run id, a unique beginning of one, a path, `latest`.")
    ],
    by: Annotated[_By, typer.Option(help="Whose costs are added up.")] = _By.ROLE,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting: section.key=value. Repeatable."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Say what the answers of a run cost: tokens, cache, dollars, pauses."""
    files = find_run(load_settings((), assign or ()).run.directory, name)
    found = costs_of(files.events.read(), by.value)
    if as_json:
        told = [cost.model_dump(mode="json") for cost in found]
        typer.echo(json.dumps({"by": by.value, "costs": told}))
        return
    Console().print(_table(by.value, found))


def _table(by: str, found: tuple[Cost, ...]) -> Table:
    table = Table()
    for heading in (by, "answers", "calls", "input", "cached", "repeated", "output", "USD", "time"):
        table.add_column(heading, justify="left" if heading == by else "right")
    for cost in found:
        failed = f" ({cost.failures} failed)" if cost.failures else ""
        waited = f" ({cost.waited_s:.0f} s waiting)" if cost.waits else ""
        table.add_row(
            cost.of,
            f"{cost.answers}{failed}",
            str(cost.calls),
            *(f"{n:,}" for n in (cost.input_tokens, cost.cached_tokens, cost.repeated_tokens)),
            f"{cost.output_tokens:,}",
            f"{cost.usd:.4f}",
            f"{cost.seconds:.0f} s{waited}",
        )
    return table
