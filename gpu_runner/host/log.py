"""The log of a subject: memory of a fixed size that it can write, and that is only ever shown."""

import fcntl
import os
import re

_SIZE_BYTES = 1 << 20
_TAIL_BYTES = 8 * 1024
_NO_RESIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Log:
    """Takes stdout and stderr of one process; beyond a mebibyte its writes fail."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, _SIZE_BYTES)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _NO_RESIZE)

    def tail(self) -> str:
        """Return the last 8 KiB: decoded with replacement, control characters removed."""
        end = os.lseek(self.fd, 0, os.SEEK_CUR)  # ours and the writer's are one position
        start = max(0, end - _TAIL_BYTES)
        text = os.pread(self.fd, min(end - start, _TAIL_BYTES), start).decode(errors="replace")
        return _UNPRINTABLE.sub("", text)

    def last_line(self) -> str:
        """Return the last line that says something, at most 300 characters."""
        lines = [line.strip() for line in self.tail().splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.fd)
