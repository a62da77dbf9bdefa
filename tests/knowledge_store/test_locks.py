import multiprocessing

import pytest

from knowledge_store.locks import OwnerLock, exclusive, shared


def held_elsewhere(path, taken, release):
    lock = OwnerLock(path)
    taken.set()
    release.wait(20)
    lock.release()


def test_an_owner_keeps_others_out_until_it_lets_go(tmp_path):
    first = OwnerLock(tmp_path / "below" / "lock")
    assert first.is_held
    assert not OwnerLock(tmp_path / "below" / "lock").is_held
    first.release()
    first.release()
    again = OwnerLock(tmp_path / "below" / "lock")
    assert again.is_held
    again.release()


@pytest.mark.processes
def test_a_lock_of_a_process_that_was_killed_is_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    taken, release = context.Event(), context.Event()
    other = context.Process(target=held_elsewhere, args=(tmp_path / "lock", taken, release))
    other.start()
    assert taken.wait(20)
    assert not OwnerLock(tmp_path / "lock").is_held
    other.kill()
    other.join()
    mine = OwnerLock(tmp_path / "lock")
    assert mine.is_held
    mine.release()


def test_readers_share(tmp_path):
    with shared(tmp_path / "lock"), shared(tmp_path / "lock"):
        pass
    with exclusive(tmp_path / "lock"):
        assert not OwnerLock(tmp_path / "lock").is_held
