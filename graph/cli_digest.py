"""The command `digest`: a profiler report in, what binds its kernel and one next edit out.

It stands by itself: no run, no target, no GPU and no settings are needed to read a report.
"""

# An option is a parameter and a flag is a boolean one: that is how typer reads a command.
# ruff: noqa: FBT002, PLR0913, PLR0917

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graph.durable import write_bytes
from graph.errors import DigestUnwritten

_FILE = "An export of the {} page (`--page {} --csv`)."


def digest(
    report: Annotated[
        Path,
        typer.Argument(
            help="A .ncu-rep, or what `ncu --import R --page raw --csv` (or details) prints.",
            metavar="REPORT",
        ),
    ],
    kernel: Annotated[
        str | None,
        typer.Option(
            help="Name, part of it or a pattern with `*`; else the one that takes most time.",
            metavar="NAME",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="A report to compare with: the parent's, the baseline's.", metavar="REPORT"
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help=_FILE.format("source", "source"), metavar="CSV")
    ] = None,
    details: Annotated[
        Path | None, typer.Option(help=_FILE.format("details", "details"), metavar="CSV")
    ] = None,
    required_bytes: Annotated[
        float | None, typer.Option(help="Bytes that any right answer must move.", min=1)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Markdown on standard output.")
    ] = False,
    for_model: Annotated[
        bool,
        typer.Option("--for-model", help="Markdown of at most 2,000 tokens, for a language model."),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write one HTML file that needs no network.", metavar="FILE")
    ] = None,
) -> None:
    """Say what binds a kernel in an Nsight Compute report, and the one next edit."""
    from gpu_runner.report import read_kernels  # noqa: PLC0415 - with the rest of the command
    from graph.digest import markdown  # noqa: PLC0415 - same
    from graph.digest.build import build, chosen  # noqa: PLC0415 - same
    from graph.digest.terminal import show  # noqa: PLC0415 - same

    kernels = read_kernels(report, source=source, details=details)
    if required_bytes is not None:
        one = chosen(kernels, kernel)
        known = one.model_copy(update={"required_bytes": required_bytes})
        kernels = tuple(known if other is one else other for other in kernels)
    found = build(
        kernels,
        report=str(report),
        kernel=kernel,
        against=read_kernels(against) if against is not None else (),
        against_report=str(against or ""),
    )
    if html is not None:
        from graph.digest.html import html as page  # noqa: PLC0415 - jinja2

        try:
            write_bytes(html, page(found).encode())
        except OSError as error:
            raise DigestUnwritten(
                f"{html} cannot be written: {error.strerror or error}; name another file"
            ) from error
    if as_json:
        typer.echo(found.model_dump_json())
    elif for_model:
        typer.echo(markdown.for_model(found), nl=False)
    elif as_markdown:
        typer.echo(markdown.markdown(found), nl=False)
    elif html is not None:
        typer.echo(html)
    else:
        show(Console(), found)
