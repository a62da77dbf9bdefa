"""Plain `.diff` and `.patch` files, with the mail header that git writes where there is one."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from pathlib import Path

from pydantic import ValidationError

from knowledge_store.errors import SourceError
from knowledge_store.licences import settled_licence
from knowledge_store.progress import Progress, Report, Tell, silent
from knowledge_store.pulls import UNKNOWN_LICENCE, PullRequest
from knowledge_store.sources.catalogue import Catalogue, shipped_catalogue
from knowledge_store.sources.reading import Refused, clean, file_bytes, fingerprint, printable
from knowledge_store.truth import Truth
from knowledge_store.truth_batch import MOST_DIFF_BYTES

SUFFIXES = frozenset({".diff", ".patch"})
FIRST_GIVEN_NUMBER = 1_000_000_000
"""Numbers from here on are given to files whose names hold none, from their names."""

_NUMBER = re.compile(r"(?:pr|gh|pull|mr)?[-_#]?0*([1-9]\d{0,8})(?!\d)", re.IGNORECASE)
_MAIL = re.compile(rb"From [0-9a-f]{40} ")
_MARKS = re.compile(r"^\s*\[[^\]]*PATCH[^\]]*\]\s*", re.IGNORECASE)
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
_BODY_END = re.compile(rb"^---\s*$|^diff --git ", re.MULTILINE)
_MOST_HEAD_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Head:
    """What a mail header says."""

    title: str = ""
    body: str = ""
    author: str = ""
    day: str = ""


def ingest(
    truth: Truth,
    source: Path,
    *,
    repo: str = "",
    licence: str = UNKNOWN_LICENCE,
    tell: Tell = silent,
    catalogue: Catalogue | None = None,
) -> Report:
    """Take in every patch below a folder, or one patch.

    Args:
        truth: the open store.
        source: a folder or a file; links are not followed.
        repo: `owner/name` that they belong to; `local/<name of the folder>` where none is given.
        licence: SPDX expression that the caller vouches for.
        tell: hears how far it is.
        catalogue: licences; the shipped ones where none is given.

    Raises:
        SourceError: there is nothing of that name, or the repository's name is none.
    """
    if not source.exists():
        raise SourceError(f"{source} does not exist; name a folder of patches or one patch")
    folder = source if source.is_dir() else source.parent
    repo = repo or f"local/{_OTHER.sub('-', folder.resolve().name).strip('-')[:100] or 'patches'}"
    licence = settled_licence(licence, (catalogue or shipped_catalogue()).licence(repo))
    report = Report(source=str(source))
    files = sorted(_patches(source, report))
    met: dict[int, str] = {}
    with truth.batch() as batch:
        for done, path in enumerate(files, 1):
            name = printable(path.relative_to(folder).as_posix())
            number = number_of(name)
            if met.setdefault(number, name) != name:
                report.problems.append(f"{name}: the same number as {met[number]}")
                continue
            try:
                diff = file_bytes(path, MOST_DIFF_BYTES)
                pull = _pull(repo, number, name, diff or b"", licence)
            except Refused as refusal:
                report.contain(str(refusal))
                report.problems.append(f"{name}: {refusal}")
                continue
            item = f"patch:{repo}:{name}"
            mark = fingerprint(diff, pull.model_dump_json())
            if truth.seen(item)[0] == mark:
                report.count("unchanged")
            else:
                report.count(batch.put(pull, diff))
                batch.mark(item, mark, pull.key)
            tell(Progress(stage="patches", done=done, total=len(files), item=name))
    return report


def number_of(name: str) -> int:
    """Return the number that a patch's name begins with, or one made from the whole name."""
    found = _NUMBER.match(name.rpartition("/")[2])
    if found:
        return int(found[1])
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return FIRST_GIVEN_NUMBER + int.from_bytes(digest[:6], "big")


def head_of(diff: bytes) -> Head:
    """Return what the mail header of a patch says; nothing where there is none."""
    if not _MAIL.match(diff):
        return Head()
    head = diff[:_MOST_HEAD_BYTES].partition(b"\n")[2]
    mail = BytesHeaderParser().parsebytes(head)
    body = _BODY_END.split(head.partition(b"\n\n")[2], maxsplit=1)[0]
    try:
        day = parsedate_to_datetime(str(mail.get("Date", ""))).strftime("%Y-%m-%d")
    except ValueError:
        day = ""
    return Head(
        title=_MARKS.sub("", _decoded(str(mail.get("Subject", "")))).strip(),
        body=clean(body.decode("utf-8", "replace")).strip(),
        author=_decoded(str(mail.get("From", ""))).partition("<")[0].strip(),
        day=day,
    )


def _decoded(value: str) -> str:
    try:
        return " ".join(clean(str(make_header(decode_header(value)))).split())
    except (HeaderParseError, UnicodeError, LookupError, ValueError):
        return " ".join(clean(value).split())


def _pull(repo: str, number: int, name: str, diff: bytes, licence: str) -> PullRequest:
    head = head_of(diff)
    try:
        return PullRequest(
            repo=repo,
            number=number,
            title=head.title or clean(Path(name).stem.replace("-", " ").replace("_", " ")),
            body=head.body,
            author=head.author,
            merged_at=head.day,
            licence=licence,
            origin="patch",
        )
    except ValidationError as error:
        raise SourceError(f"{repo!r} is not owner/name; name the repository so") from error


def _patches(source: Path, report: Report) -> Iterator[Path]:
    for path in source.rglob("*") if source.is_dir() else (source,):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.is_symlink():
            report.contain("links")
        elif path.is_file():
            yield path
