"""Who is next: the jobs that wait for a slot, in the order in which they get one.

Pure. Higher priority first; within one, the session that was served longest ago; within a session
first come, first served. It knows ids and terms and nothing of workers' messages.
"""

from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from gpu_runner.terms import Demand, Terms

_MOST_SESSIONS = 10_000
"""Remembered turns; a session forgotten after so many others is as good as new."""

Line = list[tuple[int, str]]
"""(rank, job id) of one session, sorted."""


@dataclass(frozen=True, slots=True)
class _Place:
    rank: int
    terms: Terms


class Queue:
    """Waiting jobs."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._lines: dict[Demand, dict[tuple[int, str], Line]] = {}
        self._turns: OrderedDict[str, int] = OrderedDict()
        """Session to the number of its last turn."""
        self._turn = 0
        self.waiting: Counter[Demand] = Counter()
        """Jobs by demand."""

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """Yield every job, as they would be served by one worker that can do all."""
        return iter(tuple(job_id for job_id, _ in self.candidates(lambda _: True)))

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._places

    def add(self, job_id: str, rank: int, terms: Terms) -> None:
        """Put a job in line; ranks grow with submissions, so a smaller one was here before."""
        self._places[job_id] = _Place(rank, terms)
        lines = self._lines.setdefault(terms.demand, {})
        insort(lines.setdefault((terms.priority, terms.session), []), (rank, job_id))
        self.waiting[terms.demand] += 1

    def remove(self, job_id: str) -> None:
        """Take a job out of the line.

        Raises:
            KeyError: it is not in it.
        """
        place = self._places.pop(job_id)
        terms = place.terms
        lines = self._lines[terms.demand]
        line = lines[terms.priority, terms.session]
        del line[bisect_left(line, (place.rank, job_id))]
        if not line:
            del lines[terms.priority, terms.session]
        if not lines:
            del self._lines[terms.demand]
        self.waiting[terms.demand] -= 1
        if not self.waiting[terms.demand]:
            del self.waiting[terms.demand]

    def serve(self, job_id: str) -> None:
        """Take a job out of the line because it got a slot: its session has had its turn.

        Raises:
            KeyError: it is not in it.
        """
        session = self._places[job_id].terms.session
        self.remove(job_id)
        self._turn += 1
        self._turns[session] = self._turn
        self._turns.move_to_end(session)
        if len(self._turns) > _MOST_SESSIONS:
            self._turns.popitem(last=False)

    def terms(self, job_id: str) -> Terms:
        """Return the terms of a waiting job.

        Raises:
            KeyError: it is not in line.
        """
        return self._places[job_id].terms

    def candidates(self, accepts: Callable[[Demand], bool]) -> Iterator[tuple[str, Terms]]:
        """Yield the waiting jobs whose demand is accepted, the next one first.

        The queue may change only after the last one was taken from the iterator.
        """
        heads = [
            (-priority, self._turns.get(session, 0), line[0][0], index, line, 0)
            for index, (priority, session, line) in enumerate(
                (priority, session, line)
                for demand, lines in self._lines.items()
                if accepts(demand)
                for (priority, session), line in lines.items()
            )
        ]
        heapify(heads)
        while heads:
            urgency, turn, _, index, line, at = heappop(heads)
            job_id = line[at][1]
            yield job_id, self._places[job_id].terms
            if at + 1 < len(line):
                # After its turn a session comes behind those of its priority that had none.
                heappush(
                    heads, (urgency, turn + self._turn + 1, line[at + 1][0], index, line, at + 1)
                )
