"""What every device process has in common: its memory, and a loop that answers the supervisor.

The first message is `open`: the problem, the placements, and for launchers and baselines the
descriptors of the slabs that the oracle has allocated. Any failure of the driver is answered once
with its name, then the process ends: its context is lost.
"""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Final

from gpu_runner.channel import Channel, ChannelClosed, Message
from gpu_runner.device import driver
from gpu_runner.device.driver import DriverFailed
from gpu_runner.device.placement import Mode, Placement, place
from gpu_runner.errors import PlanError, RunnerError
from gpu_runner.problem import Problem, Workload
from gpu_runner.process_tree import die_with_parent

_DESCRIPTORS_A_MESSAGE: Final = 200
_MOST_CHARACTERS: Final = 4000

Handler = Callable[[Message], Message]


class Memory:
    """The slabs of all placements, mapped in this process."""

    def __init__(self, placements: Sequence[Placement], bases: list[list[int]]) -> None:
        """Keep where each slab begins: one list a placement."""
        self.placements = tuple(placements)
        self._bases = bases

    def addresses(self, place: int, slot: int) -> dict[str, int]:
        """Return the address of every tensor of one slot."""
        spots = self.placements[place].spots[slot]
        return {name: self._bases[place][spot.slab] + spot.offset for name, spot in spots.items()}

    def base(self, place: int, slab: int) -> int:
        """Return where a slab begins."""
        return self._bases[place][slab]


def describe(placements: Sequence[Placement]) -> list[Message]:
    """Return the placements as `open` carries them."""
    return [
        {"workload": p.workload.model_dump(mode="json"), "slots": p.slots, "mode": p.mode}
        for p in placements
    ]


def placements_in(problem: Problem, described: Sequence[Message]) -> tuple[Placement, ...]:
    """Return what `describe` described; layouts are computed again, not sent."""
    found = []
    for one in described:
        mode: Mode = one["mode"]
        workload = Workload.model_validate(one["workload"])
        found.append(place(problem, workload, slots=int(one["slots"]), mode=mode))
    return tuple(found)


def serve(
    descriptor: int,
    *,
    is_oracle: bool,
    build: Callable[[Memory, Problem, Message], dict[str, Handler]],
) -> int:
    """Answer messages until the other end closes.

    Args:
        descriptor: a connected stream socket.
        is_oracle: allocate the slabs and send their descriptors; otherwise take them in.
        build: makes the handlers once the memory is mapped.

    Returns:
        The exit code: 0 where the supervisor hung up, 1 after a failure.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(os.getppid())
    channel = Channel(socket.socket(fileno=descriptor))
    handlers: dict[str, Handler] = {}
    while True:
        try:
            message, descriptors = channel.receive()
        except ChannelClosed:
            return 0
        try:
            if message["do"] == "open":
                for _ in range(int(message["batches"]) - 1):
                    descriptors += channel.receive()[1]
                problem = Problem.model_validate(message["problem"])
                placements = placements_in(problem, message["places"])
                memory, own = _mapped(placements, descriptors, is_oracle=is_oracle)
                handlers = build(memory, problem, message)
                _send_all(channel, own)
            else:
                channel.send({"ok": handlers[message["do"]](message)})
        except ChannelClosed:
            return 0
        except Exception as error:  # noqa: BLE001 - told to the supervisor, which judges it
            _confess(channel, error)
            return 1


def _mapped(
    placements: Sequence[Placement], descriptors: list[int], *, is_oracle: bool
) -> tuple[Memory, list[int]]:
    """Map every slab; an oracle allocates them and returns their descriptors."""
    driver.open_context()
    given = iter(descriptors)
    own: list[int] = []
    bases: list[list[int]] = []
    for placement in placements:
        row = []
        for slab in placement.slabs:
            if is_oracle:
                handle, descriptor = driver.allocate(slab.bytes)
                own.append(descriptor)
            else:
                descriptor = next(given)
                handle = driver.adopt(descriptor)
                os.close(descriptor)
            is_writable = is_oracle or slab.is_output
            row.append(driver.map_between_fences(handle, slab.bytes, is_writable=is_writable))
        bases.append(row)
    return Memory(placements, bases), own


def _send_all(channel: Channel, descriptors: list[int]) -> None:
    """Answer `open`; many slabs need several messages."""
    batches = in_batches(descriptors)
    for number, batch in enumerate(batches):
        channel.send({"ok": {"left": len(batches) - 1 - number}}, batch)


def in_batches(descriptors: Sequence[int]) -> list[Sequence[int]]:
    """Part descriptors into what one message can carry; one empty part where there are none."""
    step = _DESCRIPTORS_A_MESSAGE
    return [descriptors[i : i + step] for i in range(0, len(descriptors), step)] or [[]]


def _confess(channel: Channel, error: Exception) -> None:
    kind = "internal"
    if isinstance(error, DriverFailed):
        kind = "driver"
    elif isinstance(error, PlanError):
        kind = "plan"
    elif isinstance(error, RunnerError):
        kind = "runner"
    trace = "".join(traceback.format_exception(error))[-_MOST_CHARACTERS:]
    sys.stderr.write(trace)
    name = error.name if isinstance(error, DriverFailed) else type(error).__name__
    try:
        channel.send({"failed": kind, "name": name, "message": str(error)[:_MOST_CHARACTERS]})
    except ChannelClosed:
        return
