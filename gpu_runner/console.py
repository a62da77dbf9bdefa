"""An operator's connection to a broker: one question at a time, and its events as they happen."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from gpu_runner import wire
from gpu_runner.endpoint import dealer
from gpu_runner.errors import PoolError
from gpu_runner.operations import (
    Action,
    Event,
    Manage,
    Managed,
    Pruned,
    Replay,
    Replayed,
    Survey,
    Surveyed,
)
from gpu_runner.publishing import Listener
from gpu_runner.security.keys import load_keys
from gpu_runner.wire import Inbox, Malformed, Refused

_LOOK_AGAIN_S = 0.05
_ASK_AGAIN_S = 2.0
"""Where nothing is published, or does not arrive, the history is asked for so often."""


class Console:
    """`with Console(endpoint) as console`."""

    def __init__(
        self, endpoint: str, *, patience_s: float = 10.0, keys: Path | None = None
    ) -> None:
        """Connect.

        Args:
            endpoint: the broker's.
            keys: folder of an operator's pair, where the broker wants keys.
            patience_s: how long to wait for an answer.

        Raises:
            PoolError: the endpoint cannot be understood, or the keys cannot be used.
        """
        self._keys = load_keys(keys) if keys else None
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = dealer(self._context, endpoint, self._keys)
        self._inbox = Inbox(wire.TO_OPERATOR)
        self._listener: Listener | None = None

    def __enter__(self) -> Self:
        """Be connected."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        if self._listener is not None:
            self._listener.close()
        self._socket.close()
        self._context.term()

    def survey(self) -> Surveyed:
        """Return how the pool stands.

        Raises:
            PoolError: no broker answers.
        """
        answer = self._ask(Survey())
        assert isinstance(answer, Surveyed)
        return answer

    def manage(self, action: Action, subject: str, reason: str = "") -> str:
        """Give an order; return what it means.

        Raises:
            PoolError: no broker answers, or it refuses.
        """
        answer = self._ask(Manage(action=action, subject=subject, reason=reason))
        assert isinstance(answer, Managed)
        return answer.message

    def history(self, after_seq: int) -> Iterator[Event | Pruned]:
        """Yield the events after one, up to now; first what of them is not kept any more.

        Raises:
            PoolError: no broker answers.
        """
        while True:
            page = self._ask(Replay(after_seq=after_seq))
            assert isinstance(page, Replayed)
            if page.last_seq < after_seq:  # a broker without a database has begun anew
                yield Pruned(after_seq=after_seq, first_seq=page.first_seq)
                after_seq = 0
                continue
            if page.first_seq > after_seq + 1:
                yield Pruned(after_seq=after_seq, first_seq=page.first_seq)
            yield from page.events
            if not page.events or page.events[-1].seq >= page.last_seq:
                return
            after_seq = page.events[-1].seq

    def follow(self, after_seq: int, published: str = "") -> Iterator[Event | Pruned]:
        """Yield events as they happen, each once and in order; ends with the connection.

        Args:
            after_seq: the last event that is known.
            published: where events are published (`Surveyed.events`); where it is empty or
                nothing arrives, the broker is asked every two seconds.

        Raises:
            PoolError: no broker answers.
        """
        if published:
            self._listener = Listener(self._context, published, self._keys)
        seq = after_seq
        while True:
            for item in self.history(seq):
                seq = item.seq if isinstance(item, Event) else item.first_seq - 1
                yield item
            for event in self._live(seq):
                seq = event.seq
                yield event

    def _live(self, seq: int) -> Iterator[Event]:
        """Yield what is published without a gap after an event; end at the first gap."""
        ask_s = time.monotonic() + _ASK_AGAIN_S
        while (left_s := ask_s - time.monotonic()) > 0:
            if self._listener is None:
                time.sleep(left_s)
                return
            heard = self._listener.heard(left_s)
            if isinstance(heard, Event) and heard.seq == seq + 1:
                seq += 1
                ask_s = time.monotonic() + _ASK_AGAIN_S
                yield heard
            elif heard is None or (heard.seq if isinstance(heard, Event) else heard.last_seq) > seq:
                return
            else:  # nothing was missed
                ask_s = time.monotonic() + _ASK_AGAIN_S

    def _ask(self, question: wire.FromOperator) -> Surveyed | Replayed | Managed:
        frames = wire.encode(question)
        give_up_s = time.monotonic() + self._patience_s
        while time.monotonic() < give_up_s:
            try:
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.Again:
                time.sleep(_LOOK_AGAIN_S)
                continue
            if self._socket.poll(int(self._patience_s * 1000)):
                return self._answer()
        msg = (
            f"no broker answered at {self._endpoint} for {self._patience_s:g} s; "
            f"start one with: kernelpilot-runner broker --endpoint {self._endpoint}"
        )
        raise PoolError(msg)

    def _answer(self) -> Surveyed | Replayed | Managed:
        answer = self._inbox.parse(self._socket.recv_multipart())
        if isinstance(answer, Malformed):
            msg = f"what the broker at {self._endpoint} says is not understood: {answer.detail}"
            raise PoolError(msg)
        if isinstance(answer, Refused):
            raise PoolError(answer.message)
        return answer
