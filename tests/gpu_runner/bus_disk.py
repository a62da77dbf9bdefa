"""A database whose commits a test makes one by one, for a world that crashes."""

from gpu_runner.journal import Entry, Finished
from gpu_runner.keeping import LAZY
from gpu_runner.operations import Change
from gpu_runner.store import Store


class Disk:
    """A database in memory whose commits a test makes one by one."""

    def __init__(self) -> None:
        self.store = Store(None)
        self.waiting: list[tuple[int, tuple[Entry, ...]]] = []
        self.lazy: tuple[Entry, ...] = ()
        self.batch = self.kept = 0
        self.leases: set[tuple[str | None, int | None]] = set()
        """Job id and token of every lease that was kept."""

    def write(self, entries):
        self.lazy += entries
        if any(entry.change not in LAZY for entry in entries):
            self.batch += 1
            self.waiting.append((self.batch, self.lazy))
            self.lazy = ()
        return self.batch

    def commit(self, count):
        while self.waiting and count:
            count -= 1
            self.kept, entries = self.waiting.pop(0)
            self.store.keep(entries, epoch=1, at_s=0.0)
            rows = [e.row for e in entries if e.change is Change.LEASED and e.row is not None]
            self.leases.update((row.job_id, row.token) for row in rows)

    def crash(self):
        """Lose what was not committed."""
        self.waiting, self.lazy, self.batch = [], (), self.kept

    def finished(self, job_id):
        for _, entries in reversed(self.waiting):
            for entry in reversed(entries):
                if entry.job_id == job_id and entry.row is not None and entry.outcome is not None:
                    row = entry.row
                    return Finished(
                        spec_digest=row.spec_digest,
                        token=row.token,
                        owner=row.owner,
                        outcome=entry.outcome,
                    )
        return self.store.finished(job_id)

    def content(self, job_id):
        return self.store.content(job_id)

    def events(self, after_seq, limit):
        return self.store.events(after_seq, limit)

    def span(self):
        return self.store.span()

    def row(self, job_id):
        query = "SELECT state, token FROM job WHERE job_id = ?"
        return self.store._db.execute(query, (job_id,)).fetchone()

    def ends(self):
        return ends_of(self.store)


def ends_of(store):
    """Job id to how often it ended for good."""
    query = (
        "SELECT job_id, count(*) FROM event WHERE change = 'finished' "
        "AND detail != 'unserved' GROUP BY job_id"
    )
    return dict(store._db.execute(query))
