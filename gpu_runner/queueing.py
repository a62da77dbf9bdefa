"""Who is next: the jobs that wait for a slot, in the order in which they get one.

Pure. It knows ids and ranks and nothing of workers' messages; `pool.py` hands out the leases.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator


class Queue:
    """Waiting jobs, first come first served; a job that lost its lease keeps its place."""

    def __init__(self) -> None:
        self._line: list[tuple[int, str]] = []
        self._ranks: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ranks)

    def __iter__(self) -> Iterator[str]:
        return iter([job_id for _, job_id in self._line])

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._ranks

    def add(self, job_id: str, rank: int) -> None:
        """Put a job in line; ranks grow with submissions, so a smaller one was here before."""
        self._ranks[job_id] = rank
        insort(self._line, (rank, job_id))

    def remove(self, job_id: str) -> None:
        """Take a job out of the line.

        Raises:
            KeyError: it is not in it.
        """
        place = (self._ranks.pop(job_id), job_id)
        del self._line[bisect_left(self._line, place)]
