"""Key pairs of one host: made here, kept here, read only where nobody else can read the secret.

A folder holds `key.secret`, `key.public` and, for those who connect, `broker.public`; a broker's
folder holds `peers.toml` as well. Keys are 64 hexadecimal digits in files and words: they need no
quoting and never look like an option.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from gpu_runner.errors import PoolError
from gpu_runner.spool import write_file

SECRET = "key.secret"  # noqa: S105 - a file's name
PUBLIC = "key.public"
BROKER = "broker.public"

_KEY = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 256
_OTHERS_READ = 0o077
_OTHERS_WRITE = 0o022


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """What a host proves itself by; the secret is in no `repr` and leaves the process nowhere."""

    public: str
    secret: bytes = field(repr=False)
    """32 bytes."""

    @property
    def public_bytes(self) -> bytes:
        """The public half as ZeroMQ takes it, 32 bytes."""
        return bytes.fromhex(self.public)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What somebody who connects has: a pair of its own, and the key the broker must prove."""

    pair: KeyPair
    broker: bytes
    """32 bytes."""


def make_pair(folder: Path) -> tuple[KeyPair, bool]:
    """Return the folder's pair and whether it was made now; one that is there is kept.

    Raises:
        PoolError: the folder cannot be written, or the secret that is there is not fit for use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / SECRET).exists():
            return load_pair(folder), False
        public, secret = (z85.decode(half) for half in zmq.curve_keypair())
        _write_secret(folder / SECRET, secret.hex())
        write_file(folder / PUBLIC, f"{public.hex()}\n".encode())
    except OSError as error:
        raise PoolError(f"cannot make keys in {folder}: {error}") from error
    return KeyPair(public=public.hex(), secret=secret), True


def note_broker(folder: Path, key: str) -> None:
    """Write down which key the broker must prove to those who connect with this folder.

    Raises:
        PoolError: it is no key, or the folder cannot be written.
    """
    checked_key(key)
    try:
        write_file(folder / BROKER, f"{key}\n".encode())
    except OSError as error:
        raise PoolError(f"cannot write {folder / BROKER}: {error}") from error


def load_pair(folder: Path) -> KeyPair:
    """Return the pair of a folder.

    Raises:
        PoolError: there is none, it is damaged, or others can read the secret.
    """
    path = folder / SECRET
    secret = bytes.fromhex(_read_key(path, forbidden=_OTHERS_READ, remedy=f"chmod 600 {path}"))
    public = z85.decode(zmq.curve_public(z85.encode(secret)))
    return KeyPair(public=public.hex(), secret=secret)


def load_keys(folder: Path) -> Keys:
    """Return what somebody who connects needs.

    Raises:
        PoolError: as `load_pair`; or the broker's key is not there, or others can replace it.
    """
    path = folder / BROKER
    pair = load_pair(folder)
    if not path.exists():
        raise PoolError(
            f"{path} is not there: whoever connects must know the broker; "
            f"kernelpilot-runner keys new --keys {folder} --broker KEY writes it, and `keys new` "
            "on the broker's host prints that KEY"
        )
    broker = _read_key(path, forbidden=_OTHERS_WRITE, remedy=f"chmod go-w {path}")
    return Keys(pair=pair, broker=bytes.fromhex(broker))


def checked_key(text: str) -> str:
    """Return a public key if it is one.

    Raises:
        PoolError: it is not 64 hexadecimal digits.
    """
    if not _KEY.fullmatch(text):
        raise PoolError("a key is 64 hexadecimal digits, as `kernelpilot-runner keys new` prints")
    return text


def read_guarded(path: Path, *, forbidden: int, remedy: str, most_bytes: int) -> bytes:
    """Return the content of a file that nobody else may read or write.

    What is checked is the file that is read, not the name: it cannot be exchanged in between.

    Args:
        path: the file.
        forbidden: permission bits that must not be set.
        remedy: what to do when one is.
        most_bytes: a longer file is not read.

    Raises:
        PoolError: a bit is set, somebody else owns it, it is too long or no plain file.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > most_bytes:
            raise PoolError(f"{path} is no file of at most {most_bytes} bytes")
        if facts.st_uid not in {os.geteuid(), 0}:
            raise PoolError(f"{path} belongs to user {facts.st_uid}; it must be this process's own")
        if facts.st_mode & forbidden:
            mode = stat.S_IMODE(facts.st_mode)
            raise PoolError(f"{path} is open to others (mode {mode:o}); {remedy}")
        return os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)


def _read_key(path: Path, *, forbidden: int, remedy: str) -> str:
    try:
        content = read_guarded(path, forbidden=forbidden, remedy=remedy, most_bytes=_MOST_BYTES)
    except FileNotFoundError as error:
        remedy = f"kernelpilot-runner keys new --keys {path.parent}"
        raise PoolError(f"{path} is not there; make a pair with: {remedy}") from error
    except OSError as error:
        raise PoolError(f"cannot read {path}: {error.strerror}") from error
    text = content.decode(errors="replace").strip()
    if not _KEY.fullmatch(text):
        raise PoolError(f"{path} holds no key (64 hexadecimal digits); make another pair")
    return text


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(f"{text}\n".encode())
        file.flush()
        os.fsync(descriptor)
