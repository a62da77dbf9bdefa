"""Which blobs to collect. Pure; times are arguments."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A blob on disk."""

    digest: str
    size_bytes: int
    used_s: float
    """When it was last put, fetched or kept, seconds of the wall clock."""


def garbage(
    entries: Iterable[Entry],
    *,
    live: Collection[str],
    now_s: float,
    ttl_s: float,
    most_bytes: int,
) -> tuple[Entry, ...]:
    """Return what to remove: what nobody used for long, then the oldest until the rest fits.

    Args:
        entries: all blobs.
        live: digests that somebody needs now; never removed, whatever their size.
        now_s: wall clock.
        ttl_s: blobs unused for longer go.
        most_bytes: what all blobs together may take.
    """
    known = sorted(entries, key=lambda entry: (entry.used_s, entry.digest))
    held_bytes = sum(entry.size_bytes for entry in known)
    doomed = []
    for entry in known:
        is_old = now_s - entry.used_s > ttl_s
        if entry.digest not in live and (is_old or held_bytes > most_bytes):
            doomed.append(entry)
            held_bytes -= entry.size_bytes
    return tuple(doomed)
