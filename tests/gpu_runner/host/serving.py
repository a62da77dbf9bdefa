"""One call of a native subject, and how it was refused, for the tests of subjects."""

import numpy as np
import pytest

from gpu_runner.errors import SubjectFailed
from gpu_runner.host.arena import Arena, ArenaMode
from gpu_runner.host.grants import LayerName
from gpu_runner.host.subject import Subject
from tests.gpu_runner.host.kernels import (
    POISON,
    make_mode,
    make_plan,
    make_scaling,
)

ALL: frozenset[LayerName] = frozenset()
NO_NAMESPACE = frozenset({"bubblewrap"})
ONLY_PROTOCOL = frozenset({"bubblewrap", "landlock", "seccomp", "cgroup", "rlimits"})
FALLBACKS = pytest.mark.parametrize(
    "without", [ALL, NO_NAMESPACE, ONLY_PROTOCOL], ids=["all", "no namespace", "bare"]
)


def serve_once(artefact, mode, *, arena_mode=ArenaMode.TIMED, slots=1, **changes):
    """Return the outputs of one call of all slots, its time, and what the marks say."""
    problem = make_scaling()
    with Arena(problem, make_mode(mode), slots=slots, mode=arena_mode) as arena:
        for slot in range(slots):
            arena.input(slot, "x")[...] = np.arange(64, dtype=np.float32).reshape(4, 16) + slot
        arena.poison(range(slots), POISON)
        with Subject(make_plan(artefact, arena, **changes)) as subject:
            subject.wait_ready()
            spent = subject.call(0, 0, slots)
            found = [arena.output(slot, "y").copy() for slot in range(slots)]
            subject.refuse_movement()
            marks = arena.broken_guard(range(slots)), arena.unwritten(range(slots), POISON)
        return found, spent, marks


def pid_of(subject) -> int:
    return int(subject._freezer.pid)


def refusal_of(artefact, mode, **changes) -> SubjectFailed:
    with pytest.raises(SubjectFailed) as caught:
        serve_once(artefact, mode, **changes)
    return caught.value
