"""The sources that a command names, ready to be read into a truth."""

import os
from functools import partial
from pathlib import Path

from knowledge_store.errors import SourceError
from knowledge_store.operations import Ingest
from knowledge_store.progress import Report, Tell
from knowledge_store.sources.catalogue import shipped_catalogue
from knowledge_store.truth import Truth

_TOKENS = ("GITHUB_TOKEN", "GH_TOKEN")


def sources(
    *,
    bundles: list[Path] | None = None,
    git: list[Path] | None = None,
    patches: list[Path] | None = None,
    is_own: bool = False,
) -> list[Ingest]:
    """Return the sources of a build, in the order in which they are read.

    Raises:
        SourceError: a path does not exist.
    """
    for path in (*(bundles or ()), *(git or ()), *(patches or ())):
        if not path.exists():
            raise SourceError(f"{path} does not exist; name a folder or an archive")
    return [
        *(partial(_bundles, path) for path in bundles or ()),
        *(partial(_git, path) for path in git or ()),
        *(partial(_patches, path) for path in patches or ()),
        *((_own,) if is_own else ()),
    ]


def fetches(
    repo: str, *, since: str = "", paths: tuple[str, ...] = (), base_url: str = ""
) -> list[Ingest]:
    """Return the fetch of a repository, or one of each of the source list for `all`."""
    given = (since, paths, base_url)
    if repo != "all":
        return [partial(_github, repo, given)]
    return [partial(_one_of_all, one.repo, given) for one in shipped_catalogue().upstreams]


def _bundles(path: Path, truth: Truth, tell: Tell) -> Report:
    from knowledge_store.sources import bundles  # noqa: PLC0415 - one source is read, not four

    return bundles.ingest(truth, path, tell=tell)


def _git(path: Path, truth: Truth, tell: Tell) -> Report:
    from knowledge_store.sources import git  # noqa: PLC0415 - same

    return git.ingest(truth, path, tell=tell)


def _patches(path: Path, truth: Truth, tell: Tell) -> Report:
    from knowledge_store.sources import patches  # noqa: PLC0415 - same

    return patches.ingest(truth, path, tell=tell)


def _own(truth: Truth, tell: Tell) -> Report:
    from knowledge_store import own  # noqa: PLC0415 - same

    return own.ingest(truth, tell=tell)


def _one_of_all(
    repo: str, given: tuple[str, tuple[str, ...], str], truth: Truth, tell: Tell
) -> Report:
    """Fetch one repository of many: what is wrong with it must not keep the others out."""
    try:
        return _github(repo, given, truth, tell)
    except SourceError as error:
        report = Report(source=repo)
        report.stop(str(error))
        return report


def _github(repo: str, given: tuple[str, tuple[str, ...], str], truth: Truth, tell: Tell) -> Report:
    from knowledge_store.sources import github  # noqa: PLC0415 - same

    since, paths, base_url = given
    token = next((os.environ[name] for name in _TOKENS if os.environ.get(name)), "")
    return github.ingest(
        truth, repo, since=since, paths=paths, token=token, base_url=base_url, tell=tell
    )
