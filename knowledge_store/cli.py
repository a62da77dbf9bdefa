"""The commands `kernelpilot knowledge ...`: build a store, search it, open pages, check it.

Each imports what it needs when it runs, so that `--help` answers at once. Every error that a user
can put right is one line and exit code 2.
"""

# An option is a parameter and a flag is a boolean one: that is how typer reads a command.
# ruff: noqa: FBT002, PLR0913, PLR0917

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from knowledge_store import cli_sources
from knowledge_store.cli_options import (
    DEFAULT_STORE,
    FOUND_NOTHING,
    ChunksAPull,
    EmbedderName,
    Json,
    Kinds,
    Limit,
    Log,
    Repos,
    Server,
    Since,
    Store,
    Tags,
    Until,
    command,
    filter_of,
    require_store,
)
from knowledge_store.cli_text import Console, found_rows, page_rows

if TYPE_CHECKING:
    from knowledge_store.findings import SearchFilter
    from knowledge_store.operations import Built, Ingest

app = typer.Typer(
    name="knowledge",
    help="Evidence from pull requests: build a store of their diffs, search it, cite it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_sources.app, name="source", no_args_is_help=True)
app.command()(cli_sources.web)


@app.command()
@command
def build(
    store: Store = DEFAULT_STORE,
    bundles: Annotated[
        list[Path] | None, typer.Option(help="Folder of PR bundles, or an archive of them.")
    ] = None,
    git: Annotated[list[Path] | None, typer.Option(help="A local clone; its merges.")] = None,
    patches: Annotated[
        list[Path] | None, typer.Option(help="Folder of .diff and .patch files, or one.")
    ] = None,
    own: Annotated[bool, typer.Option("--own", help="Take in this project's own recipes.")] = False,
    embedder: EmbedderName = "auto",
    chunks_a_pull: ChunksAPull = 6,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Read sources into a store and build every index; go on where it stopped, repeat at will."""
    from knowledge_store import ingestion  # noqa: PLC0415 - with the command

    sources = ingestion.sources(bundles=bundles, git=git, patches=patches, is_own=own)
    _built(store, sources, embedder, (chunks_a_pull, server), as_json=as_json)


@app.command()
@command
def update(
    store: Store = DEFAULT_STORE,
    embedder: EmbedderName = "auto",
    chunks_a_pull: ChunksAPull = 6,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Bring every index to the truth; make those anew that are damaged."""
    require_store(store)
    _built(store, [], embedder, (chunks_a_pull, server), as_json=as_json)


@app.command()
@command
def fetch(
    repo: Annotated[
        str, typer.Argument(help="owner/name; `all` for every one of the source list.")
    ],
    store: Store = DEFAULT_STORE,
    since: Since = "",
    path: Annotated[
        list[str] | None, typer.Option(help="Glob of kernel paths. Repeatable.")
    ] = None,
    base_url: Annotated[str, typer.Option(help="Of the API.")] = "",
    embedder: EmbedderName = "auto",
    as_json: Json = False,
) -> None:
    """Fetch merged pull requests from GitHub since the last fetch (token: GITHUB_TOKEN)."""
    from knowledge_store import ingestion  # noqa: PLC0415 - with the command

    sources = ingestion.fetches(repo, since=since, paths=tuple(path or ()), base_url=base_url)
    _built(store, sources, embedder, (6, ""), as_json=as_json)


@app.command()
@command
def stats(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Say what a store holds and whether its indices are whole."""
    from knowledge_store import operations  # noqa: PLC0415 - with the command

    told = operations.stats(store)
    if as_json:
        typer.echo(json.dumps(told))
        return
    for name, value in told.items():
        shown = (
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        )
        shown = ", ".join(map(str, shown)) or "none" if isinstance(shown, tuple) else shown
        typer.echo(f"{name:>16}  {shown}")


@app.command()
@command
def candidates(
    store: Store = DEFAULT_STORE,
    is_deferred: Annotated[
        bool, typer.Option("--deferred", help="Only what was left out.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the ledger of candidates: what was included or deferred, and why."""
    from knowledge_store.truth import Truth  # noqa: PLC0415 - with the command

    with Truth(store, read_only=True) as truth:
        ledger = [one for one in truth.decisions() if one.decision == "defer" or not is_deferred]
    if as_json:
        typer.echo(json.dumps({"candidates": [asdict(one) for one in ledger]}))
        return
    for one in ledger:
        typer.echo(f"{one.decision:>8}  {one.key}  {one.reason}")


@app.command()
@command
def validate(
    store: Store = DEFAULT_STORE,
    bundles: Annotated[Path | None, typer.Option(help="Check a folder of bundles as well.")] = None,
    as_json: Json = False,
) -> None:
    """Check every rule that a store must keep; exit code 1 where one is broken."""
    from knowledge_store import validation  # noqa: PLC0415 - with the command

    found = list(validation.violations(store))
    if bundles is not None:
        from knowledge_store import bundle_rules  # noqa: PLC0415 - with the option

        found.extend(bundle_rules.violations(bundles))
    if as_json:
        rows = [{"rule": one.rule, "where": one.where, "what": one.what} for one in found]
        typer.echo(json.dumps({"is_valid": not found, "violations": rows}))
    else:
        for one in found:
            typer.echo(f"{one.rule}: {one.where}: {one.what}")
        typer.echo(f"{len(found)} rules broken" if found else "every rule holds")
    if found:
        raise typer.Exit(1)


@app.command(name="eval")
@command
def evaluate(
    file: Annotated[Path, typer.Argument(help="JSONL of queries with their answers.")],
    store: Store = DEFAULT_STORE,
    embedder: EmbedderName = "none",
    as_json: Json = False,
) -> None:
    """Measure recall at 10 and MRR; a query never meets the field it was made from."""
    from knowledge_store import embedders, evaluation  # noqa: PLC0415 - with the command

    console = Console(is_quiet=as_json)
    choice = embedders.choose(embedder)
    console.say(choice.said)
    questions = evaluation.read_questions(file)
    result = evaluation.evaluate(store, questions, choice.embedder, console.say)
    if as_json:
        typer.echo(json.dumps(result))
        return
    for kind, told in result["kinds"].items():
        figures = ", ".join(f"{name} {value}" for name, value in told.items())
        typer.echo(f"{kind:>12}  {figures}")


@app.command()
@command
def search(
    query: Annotated[str, typer.Argument(help='Words; an identifier, "text" or /regex/: lines.')],
    store: Store = DEFAULT_STORE,
    limit: Limit = 10,
    repo: Repos = None,
    kind: Kinds = None,
    tag: Tags = None,
    since: Since = "",
    until: Until = "",
    embedder: EmbedderName = "auto",
    server: Server = "",
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Find pull requests about a subject, or those whose lines hold a text."""
    _search(
        query,
        (store, embedder, server),
        limit,
        filter_of(repo, kind, tag, since, until),
        log,
        as_json,
    )


@app.command()
@command
def why(
    query: Annotated[str, typer.Argument(help="As for `search`.")],
    name: Annotated[str, typer.Argument(help="As for `show`.")],
    store: Store = DEFAULT_STORE,
    embedder: EmbedderName = "auto",
    as_json: Json = False,
) -> None:
    """Say where a pull request stands for a query, and what speaks for it."""
    from knowledge_store import embedders, pages  # noqa: PLC0415 - with the command
    from knowledge_store.search import Searcher  # noqa: PLC0415 - same

    with Searcher(store, embedders.choose(embedder).embedder) as searcher:
        key = pages.resolve(name, searcher.keys)
        place, found = searcher.place_of(query, key)
    if as_json:
        told = found.model_dump(mode="json") if found else None
        typer.echo(json.dumps({"query": query, "key": key, "place": place, "found": told}))
    elif found is None:
        typer.echo(f"{key} does not come: no ranker has it among its first")
    else:
        typer.echo(f"{key} is #{place}: " + "; ".join(map(str, found.why)))


@app.command()
@command
def grep(
    patterns: Annotated[list[str], typer.Argument(help="Texts; any of them.")],
    store: Store = DEFAULT_STORE,
    regex: Annotated[bool, typer.Option("--regex", "-e", help="Regular expressions.")] = False,
    word: Annotated[bool, typer.Option("--word", "-w", help="Whole words.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Lines that match all of them.")] = False,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Either case.")] = False,
    repo: Repos = None,
    path: Annotated[list[str] | None, typer.Option(help="Glob of paths. Repeatable.")] = None,
    kind: Kinds = None,
    tag: Tags = None,
    since: Since = "",
    until: Until = "",
    limit: Limit = 200,
    per_repo: Annotated[int | None, typer.Option(min=1, help="Most shown of one.")] = None,
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Find every line of every diff that matches, as `grep -n` would; totals are always exact."""
    from knowledge_store import grepping  # noqa: PLC0415 - with the command

    require_store(store)
    mode: Literal["literal", "word", "regex"] = "regex" if regex else "word" if word else "literal"
    request = grepping.GrepRequest(
        patterns=tuple(patterns),
        mode=mode,
        combine="all" if every else "any",
        ignore_case=ignore_case,
        paths=tuple(path or ()),
        limit=limit,
        per_repo=per_repo,
        only=filter_of(repo, kind, tag, since, until),
    )
    answer = grepping.grep(store, request, log)
    if as_json:
        typer.echo(answer.model_dump_json())
    else:
        for row in grepping.rows(answer):
            typer.echo(row)
    if not answer.total_hits:
        raise typer.Exit(FOUND_NOTHING)


@app.command()
@command
def show(
    name: Annotated[str, typer.Argument(help="pr-name-12, owner/name#12, name#12 or a URL.")],
    store: Store = DEFAULT_STORE,
    file: Annotated[str, typer.Option(help="Only the diff of this path.")] = "",
    no_diff: Annotated[bool, typer.Option("--no-diff", help="Without the diff.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Name what it mentions.")] = False,
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Show a pull request: provenance, licence, files, diff."""
    from knowledge_store import pages, routes  # noqa: PLC0415 - with the command
    from knowledge_store.truth import Truth  # noqa: PLC0415 - same

    part: pages.DiffPart = "none" if no_diff else "file" if file else "all"
    with Truth(store, read_only=True) as truth:
        page = pages.page(truth, name, diff=part, path=file, follow=follow)
    if log is not None:
        routes.RouteLog(log).append(routes.of_page(page))
    if as_json:
        typer.echo(page.model_dump_json())
        return
    for row in page_rows(page):
        typer.echo(row)


@app.command()
@command
def claim(
    log: Annotated[Path, typer.Argument(help="Route log of the run.")],
    searched: Annotated[
        list[str] | None, typer.Option(help="Everything was searched for this.")
    ] = None,
    borrowed: Annotated[list[str] | None, typer.Option(help="An idea is from this PR.")] = None,
    as_json: Json = False,
) -> None:
    """Check claims against a route log; exit code 2 where one is unfounded."""
    from knowledge_store import routes  # noqa: PLC0415 - with the command

    entries = routes.RouteLog(log).entries()
    borne = [routes.require_complete(entries, one) for one in searched or ()]
    borne += [routes.require_opened(entries, one) for one in borrowed or ()]
    if as_json:
        typer.echo(json.dumps({"entries": [one.model_dump(mode="json") for one in borne]}))
    else:
        for one in borne:
            typer.echo(f"borne out by {one.route} {one.query!r} at {one.at}")


def _search(
    query: str,
    where: tuple[Path, str, str],
    limit: int,
    only: "SearchFilter",
    log: Path | None,
    as_json: bool,  # noqa: FBT001 - the flag of the command line
) -> None:
    from knowledge_store import embedders, routes  # noqa: PLC0415 - with the command
    from knowledge_store.search import Searcher  # noqa: PLC0415 - same

    store, embedder, server = where
    require_store(store)
    choice = embedders.choose(embedder)
    with Searcher(store, choice.embedder, server=server) as searcher:
        answer = searcher.search(query, limit, only=only)
    if log is not None:
        routes.RouteLog(log).append(routes.of_search(answer, only))
    if as_json:
        typer.echo(answer.model_dump_json())
        return
    for row in found_rows(answer):
        typer.echo(row)


def _built(
    store: Path,
    sources: "list[Ingest]",
    embedder: str,
    given: tuple[int, str],
    *,
    as_json: bool,
) -> None:
    from knowledge_store import embedders, operations  # noqa: PLC0415 - with the command

    console = Console(is_quiet=as_json)
    choice = embedders.choose(embedder)
    done: Built = operations.build(
        store, sources, choice, tell=console.tell, chunks_a_pull=given[0], server=given[1]
    )
    if as_json:
        typer.echo(json.dumps(operations.as_dict(done)))
        return
    for stage in done.stages:
        console.say(f"{stage.stage:>10}  {stage.seconds:6.1f} s  {stage.said}")
    for report in done.sources:
        for key in report.missing:
            console.say(f"no diff: {key}")
        for problem in report.problems:
            console.say(f"problem: {problem}")
    console.say(f"done in {done.seconds:.1f} s: {store}")
