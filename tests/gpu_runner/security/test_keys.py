"""Key pairs on disk: who can read them, what is refused, and that the secret stays where it is."""

import os
import stat

import pytest
import zmq
from zmq.utils import z85

from gpu_runner.errors import PoolError
from gpu_runner.security.keys import (
    BROKER,
    PUBLIC,
    SECRET,
    checked_key,
    load_keys,
    load_pair,
    make_pair,
    note_broker,
    read_guarded,
)

OTHER = "ab" * 32


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair_is_made_once_and_loaded_again(tmp_path):
    made, is_new = make_pair(tmp_path / "keys")
    again, is_new_again = make_pair(tmp_path / "keys")
    assert (is_new, is_new_again) == (True, False)
    assert made == again == load_pair(tmp_path / "keys")
    assert (tmp_path / "keys" / PUBLIC).read_text() == f"{made.public}\n"


def test_the_public_half_belongs_to_the_secret_one(tmp_path):
    pair, _ = make_pair(tmp_path)
    assert z85.encode(pair.public_bytes) == zmq.curve_public(z85.encode(pair.secret))


def test_two_pairs_differ(tmp_path):
    assert make_pair(tmp_path / "a")[0] != make_pair(tmp_path / "b")[0]


def test_secret_and_folder_are_their_owners_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        make_pair(tmp_path / "keys")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "keys") == 0o700
    assert mode_of(tmp_path / "keys" / SECRET) == 0o600


def test_the_secret_is_in_no_text_of_the_pair(tmp_path):
    pair, _ = make_pair(tmp_path)
    note_broker(tmp_path, OTHER)
    shown = f"{pair!r} {pair} {load_keys(tmp_path)!r}"
    assert pair.public in shown
    assert pair.secret.hex() not in shown
    assert repr(pair.secret) not in shown


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o777, 0o601])
def test_a_secret_that_others_can_reach_is_refused(tmp_path, mode):
    make_pair(tmp_path)
    (tmp_path / SECRET).chmod(mode)
    with pytest.raises(PoolError, match=rf"open to others \(mode {mode:o}\); chmod 600"):
        load_pair(tmp_path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_secret_for_its_owner_is_taken(tmp_path, mode):
    pair, _ = make_pair(tmp_path)
    (tmp_path / SECRET).chmod(mode)
    assert load_pair(tmp_path) == pair


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_secret_of_another_user_is_refused(tmp_path):
    make_pair(tmp_path)
    os.chown(tmp_path / SECRET, 12_345, -1)
    with pytest.raises(PoolError, match="belongs to user 12345"):
        load_pair(tmp_path)


@pytest.mark.parametrize("content", ["", "xyz", "AB" * 32, "ab" * 31, "ab" * 33, "\xff" * 20])
def test_a_damaged_secret_is_named_and_not_quoted(tmp_path, content):
    make_pair(tmp_path)
    (tmp_path / SECRET).write_text(content, encoding="latin-1")
    with pytest.raises(PoolError, match="holds no key") as caught:
        load_pair(tmp_path)
    assert not content or content not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / SECRET).mkdir()
    with pytest.raises(PoolError, match="no file"):
        load_pair(tmp_path)


def test_a_pipe_in_the_place_of_a_key_does_not_hold_us_up(tmp_path):
    os.mkfifo(tmp_path / SECRET, 0o600)
    with pytest.raises(PoolError, match="no file"):
        load_pair(tmp_path)


def test_a_file_longer_than_a_key_can_be_is_not_read(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"x" * 11)
    path.chmod(0o600)
    with pytest.raises(PoolError, match="at most 10 bytes"):
        read_guarded(path, forbidden=0, remedy="", most_bytes=10)
    assert read_guarded(path, forbidden=0, remedy="", most_bytes=11) == b"x" * 11


def test_a_missing_pair_says_how_to_make_one(tmp_path):
    with pytest.raises(PoolError, match="keys new --keys"):
        load_pair(tmp_path)


def test_who_connects_must_know_the_broker(tmp_path):
    pair, _ = make_pair(tmp_path)
    with pytest.raises(PoolError, match="must know the broker"):
        load_keys(tmp_path)
    note_broker(tmp_path, OTHER)
    keys = load_keys(tmp_path)
    assert (keys.pair, keys.broker) == (pair, bytes.fromhex(OTHER))


def test_a_brokers_key_that_others_can_replace_is_refused(tmp_path):
    make_pair(tmp_path)
    note_broker(tmp_path, OTHER)
    (tmp_path / BROKER).chmod(0o666)
    with pytest.raises(PoolError, match="chmod go-w"):
        load_keys(tmp_path)
    (tmp_path / BROKER).chmod(0o644)
    assert load_keys(tmp_path).broker == bytes.fromhex(OTHER)


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, OTHER.upper(), f" {OTHER}", f"{OTHER}\n"])
def test_what_is_no_key_is_not_noted(tmp_path, text):
    with pytest.raises(PoolError, match="64 hexadecimal digits"):
        note_broker(tmp_path, text)
    assert not (tmp_path / BROKER).exists()


def test_a_key_is_returned_as_it_is():
    assert checked_key(OTHER) == OTHER


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PoolError, match="cannot make keys"):
        make_pair(tmp_path / "file" / "keys")
    with pytest.raises(PoolError, match="cannot write"):
        note_broker(tmp_path / "file" / "keys", OTHER)
