"""The commands about what lies beside the corpus: cloned repositories, and the live web."""

# An option is a parameter and a flag is a boolean one: that is how typer reads a command.
# ruff: noqa: FBT002, PLR0913, PLR0917

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from knowledge_store.cli_options import (
    DEFAULT_STORE,
    FOUND_NOTHING,
    Json,
    Limit,
    Log,
    Store,
    command,
)

if TYPE_CHECKING:
    from knowledge_store.source_map import SourceMap
    from knowledge_store.web import Web

app = typer.Typer(help="Repositories beside the corpus: clone, then search.")


@app.command(name="list")
@command
def list_sources(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """List the registry, and what of it is cloned."""
    told = _source_map(store).table()
    if as_json:
        typer.echo(json.dumps({"sources": told}))
        return
    for row in told:
        typer.echo(
            f"{row['id']:28} {row['commit'] or 'not cloned':14.12} {row['licence']:14} {row['why']}"
        )


@app.command()
@command
def clone(
    names: Annotated[list[str], typer.Argument(help="Ids of the registry; `all`.")],
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Clone repositories at their pinned commits."""
    _bring(_source_map(store), names, is_update=False, as_json=as_json)


@app.command(name="update")
@command
def update_sources(
    names: Annotated[list[str], typer.Argument(help="Ids of the registry; `all`.")],
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Bring the heads of repositories that the registry does not pin."""
    _bring(_source_map(store), names, is_update=True, as_json=as_json)


@app.command(name="search")
@command
def search_sources(
    pattern: Annotated[str, typer.Argument(help="A text.")],
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only this one. Repeatable.")
    ] = None,
    store: Store = DEFAULT_STORE,
    regex: Annotated[bool, typer.Option("--regex", "-e", help="A regular expression.")] = False,
    snapshots: Annotated[
        Path | None, typer.Option(help="Search the source snapshots of these bundles instead.")
    ] = None,
    limit: Limit = 200,
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Search cloned repositories; one that is not cloned is refused, not passed over."""
    from knowledge_store import snapshots as bundled  # noqa: PLC0415 - with the command
    from knowledge_store import source_search  # noqa: PLC0415 - same

    if snapshots is not None and source:
        raise ValueError("--snapshots searches bundles and --source clones; name one of them")
    if snapshots is not None:
        found = bundled.search(snapshots, pattern, (regex, limit), log)
    else:
        found = source_search.search(
            _source_map(store), pattern, tuple(source or ()), (regex, limit), log
        )
    if as_json:
        typer.echo(json.dumps({"passages": [one.model_dump(mode="json") for one in found]}))
    else:
        for one in found:
            place = f"{one.repo}#{one.pr}" if one.pr else one.source
            typer.echo(f"{place}:{one.path}:{one.first_line}:{one.text}")
    if not found:
        raise typer.Exit(FOUND_NOTHING)


@command
def web(
    what: Annotated[str, typer.Argument(help="A URL, or words for the search provider.")],
    is_on: Annotated[
        bool, typer.Option("--web", help="Allow the network for this command.")
    ] = False,
    search_url: Annotated[
        str,
        typer.Option(help="Search provider, with {query} in it.", envvar="KERNELPILOT_SEARCH_URL"),
    ] = "",
    host: Annotated[list[str] | None, typer.Option(help="Allow this host too.")] = None,
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Fetch a page of an official host as evidence (off unless --web is given)."""
    from knowledge_store import routes  # noqa: PLC0415 - with the command
    from knowledge_store.addresses import OFFICIAL  # noqa: PLC0415 - with the command
    from knowledge_store.web import Web, WebSettings  # noqa: PLC0415 - same

    settings = WebSettings(is_on=is_on, hosts=(*OFFICIAL, *(host or ())), search_url=search_url)
    if not what.startswith(("http://", "https://")):
        _show_results(Web(settings), what, log, as_json=as_json)
        return
    passage = Web(settings).fetch(what)
    if log is not None:
        routes.RouteLog(log).append(routes.of_fetch("web", what, [passage.source]))
    typer.echo(passage.model_dump_json() if as_json else passage.text)


def _show_results(web: "Web", words: str, log: Path | None, *, as_json: bool) -> None:
    from knowledge_store import routes  # noqa: PLC0415 - with the command

    found = web.search(words)
    if log is not None:
        routes.RouteLog(log).append(routes.of_fetch("web", words, [url for url, _ in found]))
    if as_json:
        typer.echo(json.dumps({"results": [{"url": url, "title": title} for url, title in found]}))
    else:
        for url, title in found:
            typer.echo(f"{url}  {title}")
    if not found:
        raise typer.Exit(FOUND_NOTHING)


def _bring(sources: "SourceMap", names: Iterable[str], *, is_update: bool, as_json: bool) -> None:
    wanted = sources.names() if list(names) == ["all"] else tuple(names)
    pins = {name: sources.update(name) if is_update else sources.clone(name) for name in wanted}
    if as_json:
        typer.echo(json.dumps({name: pin.model_dump() for name, pin in pins.items()}))
        return
    for name, pin in pins.items():
        typer.echo(f"{name}  {pin.commit}  {pin.licence}")


def _source_map(store: Path) -> "SourceMap":
    from knowledge_store import source_map  # noqa: PLC0415 - with the command
    from knowledge_store.places import StorePlaces  # noqa: PLC0415 - same

    return source_map.SourceMap(StorePlaces(store).sources, source_map.read_registry())
