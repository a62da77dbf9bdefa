"""The broker's list of workers: who is here, what they hold, and which of them may take a job.

Pure; times are arguments.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gpu_runner.records import Environment
from gpu_runner.wire import Hello

FRESH_BEATS = 2.5
"""A worker heard within this many beats is alive: another process may not take its name.
Without this rule two workers of one name starve each other's jobs (BUS 2.4)."""


MOST_SPOOLED = 16_384
"""As many as a hello lists; whoever serves for months would otherwise be remembered in full."""


@dataclass(slots=True)
class Member:
    """A registered worker."""

    name: str
    incarnation: str
    slots: int
    environment: Environment | None
    peer: bytes | None
    """Where it is reached; None after a send failed, until it says hello again."""
    heard_s: float
    seq: int
    """Of the last beat that was answered."""
    spooled: set[str]
    """Ids of jobs whose outcomes it has; at most MOST_SPOOLED of them."""
    held: set[str] = field(default_factory=set)
    """Ids of the live jobs it owns."""
    tags: frozenset[str] = frozenset()
    is_draining: bool = False
    drained_since_s: float | None = None
    """Since when no build is leased to it, for a job that wants all of it."""
    is_expected: bool = False
    """Known from before a restart of the broker and not heard since; it counts as no worker."""

    @property
    def has_free_slot(self) -> bool:
        """Whether it can take one more job."""
        return self.peer is not None and not self.is_draining and len(self.held) < self.slots

    def keep_in_spool(self, job_id: str) -> None:
        """Note that it has the outcome of a job; some other one is forgotten for it."""
        if len(self.spooled) >= MOST_SPOOLED:
            self.spooled.pop()
        self.spooled.add(job_id)


class Roster:
    """Workers by name and by where they are reached."""

    def __init__(self, *, beat_s: float, lease_s: float) -> None:
        self._beat_s = beat_s
        self._lease_s = lease_s
        self._members: dict[str, Member] = {}
        self._names: dict[bytes, str] = {}
        self.restrictions: dict[str, str] = {}
        """Names that operators keep jobs from, and why; they need not be registered."""

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Member]:
        """Yield the workers that have registered, in the order in which they did."""
        return iter(tuple(m for m in self._members.values() if not m.is_expected))

    def everybody(self) -> tuple[Member, ...]:
        """Return the workers that have registered and those that are expected to."""
        return tuple(self._members.values())

    def is_open(self, member: Member) -> bool:
        """Whether a worker takes jobs: it is reached, and neither it nor an operator says no."""
        is_willing = not member.is_draining and member.name not in self.restrictions
        return member.peer is not None and is_willing

    def named(self, name: str) -> Member | None:
        """Return the worker of that name."""
        return self._members.get(name)

    def at(self, peer: bytes) -> Member | None:
        """Return the worker reached at `peer`."""
        return self._members.get(self._names.get(peer, ""))

    def is_taken(self, hello: Hello, now_s: float) -> bool:
        """Whether another living process has the name."""
        known = self._members.get(hello.worker)
        return (
            known is not None
            and not known.is_expected
            and known.incarnation != hello.incarnation
            and now_s - known.heard_s < FRESH_BEATS * self._beat_s
        )

    def expect(self, name: str, now_s: float) -> Member:
        """Return the worker of that name; one that is not registered has a lease from now."""
        known = self._members.get(name)
        if known is None:
            known = self._members[name] = Member(
                name=name,
                incarnation="",
                slots=1,
                environment=None,
                peer=None,
                heard_s=now_s,
                seq=0,
                spooled=set(),
                is_expected=True,
            )
        return known

    def register(self, peer: bytes, hello: Hello, now_s: float) -> Member:
        """Put a worker on the list, with what it held before under this name."""
        known = self._members.get(hello.worker)
        if known is not None and known.peer is not None:
            self._names.pop(known.peer, None)
        member = Member(
            name=hello.worker,
            incarnation=hello.incarnation,
            slots=hello.slots,
            environment=hello.environment,
            peer=peer,
            heard_s=now_s,
            seq=hello.seq,
            spooled=set(hello.spooled),
            held=set(known.held) if known else set(),
            tags=tags_of(hello),
        )
        self._members[hello.worker] = member
        self._names[peer] = hello.worker
        return member

    def remove(self, member: Member) -> None:
        """Take a worker off the list."""
        self._members.pop(member.name, None)
        if member.peer is not None:
            self._names.pop(member.peer, None)

    def unreachable(self, peer: bytes) -> Member | None:
        """Note that nothing can be sent to `peer`; return the worker that was there."""
        member = self.at(peer)
        if member is not None:
            self._names.pop(peer, None)
            member.peer = None
        return member

    def silent(self, now_s: float) -> tuple[Member, ...]:
        """Return the workers whose leases are over."""
        return tuple(m for m in self.everybody() if now_s - m.heard_s >= self._lease_s)


def tags_of(hello: Hello) -> frozenset[str]:
    """Return what a worker offers: what it says, and what follows from its machine."""
    arch = hello.environment.arch
    if not arch.startswith("sm_"):
        return frozenset({*hello.tags, arch, "cpu"})
    # A worker that names no tools is asked for all of them, and says what is missing.
    return frozenset({*(hello.tags or ("nvrtc", "triton", "ncu")), arch, "gpu"})
