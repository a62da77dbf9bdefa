"""The list on disk: changes, reloads, and what is not believed."""

import threading

import pytest

from gpu_runner.errors import PoolError
from gpu_runner.security.peer_file import PEERS, WatchedPeers, change_peers, load_peers
from gpu_runner.security.peers import AllowList, Holder, Role


def holder(number, role=Role.CLIENT):
    return Holder(key=f"{number:064x}", role=role, name=f"run-{number}")


def enroll(folder, number):
    change_peers(folder, lambda allowed: allowed.enrolled(holder(number)))


def test_without_a_file_nobody_is_enrolled(tmp_path):
    assert load_peers(tmp_path) == AllowList()


def test_changes_add_up(tmp_path):
    enroll(tmp_path, 1)
    enroll(tmp_path, 2)
    assert load_peers(tmp_path).peer == (holder(1), holder(2))


def test_a_change_that_is_refused_changes_nothing(tmp_path):
    enroll(tmp_path, 1)
    before = (tmp_path / PEERS).read_bytes()
    with pytest.raises(PoolError, match="enrolled already"):
        enroll(tmp_path, 1)
    assert (tmp_path / PEERS).read_bytes() == before


def test_changes_at_the_same_time_are_all_kept(tmp_path):
    threads = [threading.Thread(target=enroll, args=(tmp_path, n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {h.name for h in load_peers(tmp_path).peer} == {f"run-{n}" for n in range(8)}


def test_a_list_that_others_can_write_is_not_believed(tmp_path):
    enroll(tmp_path, 1)
    (tmp_path / PEERS).chmod(0o666)
    with pytest.raises(PoolError, match="chmod go-w"):
        load_peers(tmp_path)
    (tmp_path / PEERS).chmod(0o644)
    assert load_peers(tmp_path).peer == (holder(1),)


@pytest.mark.parametrize("content", [b"[[peer]", b"\xff\xfe", b'[[peer]]\nkey = "x"'])
def test_a_damaged_list_is_named_with_its_file(tmp_path, content):
    (tmp_path / PEERS).write_bytes(content)
    (tmp_path / PEERS).chmod(0o600)
    with pytest.raises(PoolError, match=f"cannot use .*{PEERS}"):
        load_peers(tmp_path)
    with pytest.raises(PoolError):
        WatchedPeers(tmp_path)
    with pytest.raises(PoolError):
        enroll(tmp_path, 1)
    assert (tmp_path / PEERS).read_bytes() == content


def test_a_watched_list_follows_its_file(tmp_path):
    watched = WatchedPeers(tmp_path)
    assert not watched.refresh()
    enroll(tmp_path, 1)
    assert watched.refresh()
    assert watched.allowed.peer == (holder(1),)
    assert not watched.refresh()
    change_peers(tmp_path, lambda allowed: allowed.revoking("run-1")[0])
    assert watched.refresh()
    assert watched.allowed.admitted(holder(1).key) is None


def test_while_the_file_is_damaged_nobody_is_admitted(tmp_path, caplog):
    enroll(tmp_path, 1)
    watched = WatchedPeers(tmp_path)
    good = (tmp_path / PEERS).read_bytes()
    (tmp_path / PEERS).write_bytes(b"[[peer]")
    assert watched.refresh()
    assert watched.allowed == AllowList()
    assert "nobody is admitted until the list is mended" in caplog.text
    assert not watched.refresh()
    (tmp_path / PEERS).write_bytes(good)
    assert watched.refresh()
    assert watched.allowed.peer == (holder(1),)


def test_a_list_that_was_removed_admits_nobody(tmp_path):
    enroll(tmp_path, 1)
    watched = WatchedPeers(tmp_path)
    (tmp_path / PEERS).unlink()
    assert watched.refresh()
    assert watched.allowed == AllowList()


def test_opening_the_list_to_others_is_noticed_although_its_text_is_the_same(tmp_path):
    enroll(tmp_path, 1)
    watched = WatchedPeers(tmp_path)
    (tmp_path / PEERS).chmod(0o622)
    assert watched.refresh()
    assert watched.allowed == AllowList()
