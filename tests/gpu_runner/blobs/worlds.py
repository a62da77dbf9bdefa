"""A store and transfers over it without sockets: lines that lose, processes that die."""

import hashlib

from gpu_runner.blobs.messages import Get, Keep, Kept, Put, Stat
from gpu_runner.blobs.store import Store, StorePlan

ROOMY = StorePlan()


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


def bytes_of(size, seed=1):
    """Content of any size that has no period a chunk could share."""
    block = b"".join(
        hashlib.sha256(f"{seed}/{n}".encode()).digest() for n in range(min(size, 1 << 20) // 32 + 1)
    )
    return (block * (size // len(block) + 1))[:size]


class World:
    """A store that can be restarted, and what its server would answer."""

    def __init__(self, folder, plan=ROOMY):
        self.folder = folder
        self.plan = plan
        self.store = Store(folder, plan)

    def restart(self):
        """The server is killed and started again."""
        self.store.close()
        self.store = Store(self.folder, self.plan)

    def answer(self, request, content=b"", owner="run"):
        match request:
            case Stat():
                return self.store.stat(request, owner), b""
            case Put():
                return self.store.put(request, owner, content), b""
            case Get():
                return self.store.get(request)
            case Keep():
                return Kept(rid=request.rid, missing=self.store.keep(request.digests)), b""

    def put(self, content, owner="run", chunk=256 * 1024):
        """Put a whole blob in order; the last answer."""
        digest = digest_of(content)
        answer = None
        for offset in range(0, max(1, len(content)), chunk):
            part = content[offset : offset + chunk]
            put = Put(rid=1, digest=digest, size_bytes=len(content), offset=offset)
            answer, _ = self.answer(put, part, owner)
        return answer

    def whole(self, content):
        """What the store has under the digest of a content, or None."""
        found = list((self.folder / "whole").glob(f"{digest_of(content)}.*"))
        return found[0].read_bytes() if found else None
