"""A web server on the loopback interface, for as long as a test module."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serve until the block ends; its port is of the system's choice."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # Looks often whether it is to end: the usual half second would be most of a test's time.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
