"""The commands that speak to a run under way: pause, hint, veto, pin, cancel.

None of them is ever needed. Each is recorded as an event, shown by `status` and in the report.
"""

# A flag is a boolean parameter: that is how typer reads a command.
# ruff: noqa: FBT001, FBT002

from typing import Annotated

import typer

from graph.control import ControlKind

RunName = Annotated[
    str, typer.Argument(help="Run id, a unique beginning of one, a path, `latest`.")
]
Because = Annotated[str, typer.Option("--because", help="The reason, kept with the run.")]
Assign = Annotated[
    list[str] | None, typer.Option("--set", help="One setting: section.key=value. Repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def pause(
    name: RunName, because: Because = "", assign: Assign = None, as_json: Json = False
) -> None:
    """Stop a run after the step at hand; `resume` goes on from there."""
    _say(name, "pause", "", because, assign, as_json)


def cancel(
    name: RunName, because: Because = "", assign: Assign = None, as_json: Json = False
) -> None:
    """Stop a run at once; what is under way is abandoned, `resume` does it again."""
    _say(name, "cancel", "", because, assign, as_json)


def hint(
    name: RunName,
    text: Annotated[str, typer.Argument(help="What every role is told from now on.")],
    assign: Assign = None,
    as_json: Json = False,
) -> None:
    """Tell a run's roles something; the playbook heeds names of recipes and `parameter=value`."""
    _say(name, "hint", "", text, assign, as_json)


def veto(
    name: RunName,
    subject: Annotated[
        str, typer.Argument(help="An attempt (a0003), a family, a recipe, or family/recipe.")
    ],
    because: Because = "",
    assign: Assign = None,
    as_json: Json = False,
) -> None:
    """Keep an attempt, family or recipe from being written again, promoted or shipped."""
    _say(name, "veto", subject, because, assign, as_json)


def pin(
    name: RunName,
    attempt: Annotated[str, typer.Argument(help="An attempt that passed every check: a0003.")],
    because: Because = "",
    assign: Assign = None,
    as_json: Json = False,
) -> None:
    """Make an attempt the incumbent when the round is over; a claim against it may replace it."""
    _say(name, "pin", attempt, because, assign, as_json)


def _say(
    name: str, kind: ControlKind, subject: str, text: str, assign: list[str] | None, as_json: bool
) -> None:
    from graph.runs import find_run  # noqa: PLC0415 - with the rest of the command
    from graph.saying import say  # noqa: PLC0415 - same
    from graph.settings import load_settings  # noqa: PLC0415 - same

    settings = load_settings((), tuple(assign or ()))
    said = say(find_run(settings.run.directory, name), kind, subject=subject, text=text)
    typer.echo(said.model_dump_json() if as_json else said.message)
