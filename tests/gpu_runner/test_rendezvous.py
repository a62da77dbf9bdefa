"""Sockets in folders: found by the folder, however long its path, and by nobody else."""

import socket
from pathlib import Path

import pytest

from gpu_runner.rendezvous import connect, listening

KINDS = pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])


@pytest.fixture
def place(tmp_path):
    """Further down than the path of a socket may reach."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    return folder / "here.sock"


@KINDS
def test_who_connects_is_heard(place, kind):
    with listening(place, kind) as listener:
        end = connect(place, 1.0, kind)
        assert end is not None
        taken, _ = listener.accept()
        with end, taken:
            end.sendall(b"word")
            assert taken.recv(16) == b"word"


def test_only_its_user_may_connect(place):
    with listening(place):
        assert place.stat().st_mode & 0o777 == 0o600


def test_what_a_dead_process_left_is_replaced(place):
    listening(place).close()
    assert place.exists()
    assert connect(place, 1.0) is None
    with listening(place):
        end = connect(place, 1.0)
        assert end is not None
        end.close()


def test_the_other_kind_of_socket_is_not_found(place):
    with listening(place, socket.SOCK_SEQPACKET):
        assert connect(place, 1.0, socket.SOCK_STREAM) is None


def test_no_descriptor_is_left_of_a_folder_that_is_missing(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        listening(tmp_path / "missing" / "here.sock")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
