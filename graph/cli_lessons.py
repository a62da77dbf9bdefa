"""The command `lessons`: what earlier runs learnt."""

# A flag is a boolean parameter: that is how typer reads a command.
# ruff: noqa: FBT002

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from graph.cli_steer import Assign, Json


def lessons(
    words: Annotated[
        list[str] | None, typer.Argument(help="Only lessons that name all of these.")
    ] = None,
    assign: Assign = None,
    as_json: Json = False,
) -> None:
    """List what earlier runs learnt: what was fast, slow or refused, where, by which records."""
    from graph.memory import NAME, OFF, read_lessons  # noqa: PLC0415 - with the rest of the command
    from graph.settings import load_settings  # noqa: PLC0415 - same

    settings = load_settings((), tuple(assign or ()))
    setting = settings.memory.lessons
    path = settings.run.directory / NAME if setting in {"", OFF} else Path(setting)
    wanted = [word.lower() for word in words or ()]
    found = [
        lesson
        for lesson in read_lessons(path)
        if all(word in lesson.model_dump_json().lower() for word in wanted)
    ]
    if as_json:
        told = [{"lesson_id": o.lesson_id, **o.model_dump(mode="json")} for o in found]
        typer.echo(json.dumps({"store": str(path), "lessons": told}))
        return
    table = Table()
    for heading in ("lesson", "found", "times", "what", "evidence"):
        table.add_column(heading)
    for one in found:
        evidence = ", ".join(one.evidence)
        table.add_row(one.lesson_id, one.finding, str(one.times), one.words(), evidence)
    Console().print(table if found else f"no such lessons in {path}")
