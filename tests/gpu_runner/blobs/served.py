"""A blob server in a thread."""

import contextlib
import os
import threading

from gpu_runner.blobs.server import BlobServer

LOOPBACK = "tcp://127.0.0.1:*"


@contextlib.contextmanager
def serving(folder, endpoint=LOOPBACK, plan=None, keys=None):
    """It serves until the block ends."""
    readable, writable = os.pipe()
    server = BlobServer(endpoint, folder, plan, keys)
    thread = threading.Thread(target=server.serve, args=(readable,))
    thread.start()
    try:
        yield server
    finally:
        os.write(writable, b"x")
        thread.join()
        os.close(readable)
        os.close(writable)
