"""What a store keeps of a diff beside its bytes: files, hunks and chunks as rows. Pure."""

from dataclasses import dataclass

from knowledge_store.chunks import VERSION, Chunked, chunk
from knowledge_store.diffs import Parsed, parse
from knowledge_store.tags import vocabulary

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """The rows of one diff, without the id of its pull request, and their totals."""

    files: tuple[Row, ...]
    hunks: tuple[Row, ...]
    chunks: tuple[Row, ...]
    totals: Row
    """Lines, added, removed, files, hunks, chunks, bounded, clipped, odd paths, problems."""


def derivation() -> str:
    """Return what makes the rows: they are made anew where it has changed."""
    return f"{VERSION}-{vocabulary().digest}"


def derive(key: str, diff: bytes) -> Derived:
    """Return the rows of a diff."""
    parsed = parse(key, diff)
    chunked = chunk(key, parsed)
    indices = {file.path: file.index for file in reversed(parsed.files)}
    return Derived(
        files=_files(parsed, chunked),
        hunks=tuple(
            (
                hunk.diff_line,
                hunk.file,
                hunk.heading,
                hunk.old_start,
                hunk.old_count,
                hunk.new_start,
                hunk.new_count,
                len(hunk.lines),
            )
            for hunk in parsed.hunks
        ),
        chunks=tuple(
            (
                piece.diff_line,
                piece.text.count("\n") + 1,
                indices[piece.path],
                piece.chunk_id.removeprefix(f"{key}:"),
                piece.heading,
                piece.new_start,
                piece.added,
                piece.removed,
                piece.part,
                piece.parts,
                ",".join(piece.tags),
            )
            for piece in chunked.chunks
        ),
        totals=(
            len(parsed.lines),
            parsed.added,
            parsed.removed,
            len(parsed.files),
            len(parsed.hunks),
            len(chunked.chunks),
            len(chunked.bounded),
            chunked.clipped,
            parsed.odd_paths,
            "\n".join(parsed.problems),
        ),
    )


def _files(parsed: Parsed, chunked: Chunked) -> tuple[Row, ...]:
    bounded = frozenset(chunked.bounded)
    return tuple(
        (
            file.index,
            file.path,
            file.old_path,
            file.status,
            file.kind,
            file.licence,
            file.first_line,
            file.last_line,
            int(file.index in bounded),
        )
        for file in parsed.files
    )
