"""A slow line in front of a host: every connection through it shares its rate and its queue."""

import queue
import socket
import threading
import time
from contextlib import suppress

_PIECE = 16 * 1024
_QUEUED = 16
"""Pieces that wait at the line, of all connections together: a quarter of a MiB."""


class SlowLine:
    """Relays of several ports; what goes to the host waits in one queue, answers do not wait."""

    def __init__(self, bytes_per_s):
        self._bytes_per_s = bytes_per_s
        self._line: queue.Queue[tuple[socket.socket, bytes] | None] = queue.Queue(_QUEUED)
        self._open: list[socket.socket] = []
        self._start(self._carry)

    def to(self, port):
        """A port on loopback that leads to another one, over the line."""
        server = socket.create_server(("127.0.0.1", 0))
        self._open.append(server)
        self._start(self._accept, server, port)
        return server.getsockname()[1]

    def close(self):
        for made in self._open:
            with suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
            made.close()
        self._line.put(None)

    def _start(self, work, *arguments):
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self, server, port):
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", port))
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _PIECE)
                self._open += [near, far]
                self._start(self._forward, near, far)
                self._start(self._back, far, near)

    def _forward(self, near, far):
        with suppress(OSError):
            while piece := near.recv(_PIECE):
                self._line.put((far, piece))

    def _back(self, far, near):
        with suppress(OSError):
            while piece := far.recv(_PIECE):
                near.sendall(piece)

    def _carry(self):
        due_s = time.monotonic()
        while (waiting := self._line.get()) is not None:
            far, piece = waiting
            due_s = max(due_s, time.monotonic()) + len(piece) / self._bytes_per_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            with suppress(OSError):
                far.sendall(piece)
