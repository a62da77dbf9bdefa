"""Options that several commands share, and what every command does with an error."""

# An option is a parameter and a flag is a boolean one: that is how typer reads a command.

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec, TypeVar

import typer

from knowledge_store.errors import KnowledgeError

if TYPE_CHECKING:
    from knowledge_store.findings import SearchFilter

DEFAULT_STORE = Path("knowledge")
USAGE = 2
FOUND_NOTHING = 1
_P = ParamSpec("_P")
_R = TypeVar("_R")

Store = Annotated[Path, typer.Option(help="Folder of the store.", envvar="KERNELPILOT_KNOWLEDGE")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
EmbedderName = Annotated[
    str,
    typer.Option(
        "--embedder",
        help="none, auto, local:PATH, openai:MODEL or sentence-transformers:PATH.",
        envvar="KERNELPILOT_EMBEDDER",
    ),
]
Server = Annotated[str, typer.Option(help="HOST:PORT of a Chroma server instead of the store's.")]
Repos = Annotated[list[str] | None, typer.Option("--repo", help="Only these. Repeatable.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Of files: kernel, library, test, bench, doc, ..."),
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="All of them. Repeatable.")]
Since = Annotated[str, typer.Option(help="Merged on this day or later, YYYY-MM-DD.")]
Until = Annotated[str, typer.Option(help="Merged on this day or earlier.")]
Log = Annotated[Path | None, typer.Option("--log", help="Route log of a run, to append to.")]
Limit = Annotated[int, typer.Option(min=1, help="Most shown.")]
ChunksAPull = Annotated[int, typer.Option(min=0, help="Chunks of each that get a vector.")]


def command(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn this package's errors into one line and an exit code."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except (KnowledgeError, ValueError) as error:
            _fail(" ".join(str(error).split()), as_json=bool(kwargs.get("as_json")))

    return run


def filter_of(
    repo: list[str] | None,
    kind: list[str] | None,
    tag: list[str] | None,
    since: str,
    until: str,
) -> "SearchFilter":
    """Return the filter that the options make.

    Raises:
        ValueError: a kind or a day is not one.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - with the command

    from knowledge_store.findings import SearchFilter  # noqa: PLC0415 - same
    from knowledge_store.tags import canonical  # noqa: PLC0415 - same

    fields = {
        "repos": tuple(repo or ()),
        "kinds": tuple(kind or ()),
        "tags": tuple(map(canonical, tag or ())),
        "since": since,
        "until": until,
    }
    try:
        return SearchFilter.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = str(first["loc"][0]).removesuffix("s")
        said = "expected YYYY-MM-DD" if option in {"since", "until"} else first["msg"]
        raise ValueError(f"--{option} {first['input']!r}: {said}") from error


def require_store(store: Path) -> None:
    """Refuse a folder that holds no store, and say how to make one."""
    if not (store / "truth.sqlite").is_file():
        raise ValueError(
            f"no knowledge store in {store}; make one with "
            "`make knowledge BUNDLES=path` or GIT=path"
        )


def _fail(message: str, *, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps({"error": message, "exit_code": USAGE}))
    typer.echo(f"kernelpilot knowledge: {message}", err=True)
    raise typer.Exit(USAGE)
