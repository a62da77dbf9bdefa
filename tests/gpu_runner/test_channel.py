import os
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.channel import Channel, ChannelClosed, ChannelTimedOut, connected


@pytest.fixture
def pair():
    ours, theirs = connected()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


def test_a_message_arrives_as_it_was_sent(pair):
    ours, other = pair
    ours.send({"do": "time", "place": 3, "deep": {"a": [1, None, "é"]}})
    assert other.receive(1.0) == ({"do": "time", "place": 3, "deep": {"a": [1, None, "é"]}}, [])


@settings(max_examples=25, deadline=None)
@given(
    messages=st.lists(
        st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text()), max_size=4),
        min_size=1,
        max_size=6,
    )
)
def test_messages_keep_their_order_and_edges(messages):
    ours, theirs = connected()
    other = Channel(theirs)
    try:
        for message in messages:
            ours.send(message)
        assert [other.receive(1.0)[0] for _ in messages] == messages
    finally:
        ours.close()
        other.close()


def test_descriptors_come_with_the_message_they_were_sent_with(pair):
    ours, other = pair
    read, write = os.pipe()
    ours.send({"n": 0})
    ours.send({"n": 1}, (write,))
    ours.send({"n": 2})
    os.close(write)
    assert other.receive(1.0) == ({"n": 0}, [])
    message, descriptors = other.receive(1.0)
    assert message == {"n": 1}
    os.write(descriptors[0], b"x")
    assert os.read(read, 1) == b"x"
    assert other.receive(1.0) == ({"n": 2}, [])
    for descriptor in (read, *descriptors):
        os.close(descriptor)


def test_two_hundred_descriptors_fit_one_message(pair):
    ours, other = pair
    read, write = os.pipe()
    copies = [os.dup(write) for _ in range(200)]
    ours.send({}, copies)
    _, taken = other.receive(1.0)
    assert len(taken) == 200
    for descriptor in (read, write, *copies, *taken):
        os.close(descriptor)


def test_a_large_message_arrives_whole(pair):
    ours, other = pair
    text = "x" * (3 << 20)
    sender = threading.Thread(target=ours.send, args=({"text": text},))
    sender.start()
    assert other.receive(10.0)[0]["text"] == text
    sender.join()


def test_silence_ends_after_the_time_given(pair):
    _, other = pair
    with pytest.raises(ChannelTimedOut):
        other.receive(0.05)


def test_half_a_message_and_then_silence_times_out_as_well():
    ours, theirs = socket.socketpair()
    other = Channel(theirs)
    ours.sendall(b"\0\0\0\0" + b"\x10\0\0\0" + b"{}")
    with pytest.raises(ChannelTimedOut):
        other.receive(0.05)
    ours.close()
    other.close()


def test_an_end_that_hangs_up_is_told_from_one_that_is_silent(pair):
    ours, other = pair
    ours.close()
    with pytest.raises(ChannelClosed):
        other.receive(1.0)


def test_sending_to_nobody_is_an_error_and_no_signal(pair):
    ours, other = pair
    other.close()
    with pytest.raises(ChannelClosed):
        ours.send({"text": "x" * (1 << 20)})


def test_a_length_beyond_reason_is_refused():
    ours, theirs = socket.socketpair()
    other = Channel(theirs)
    ours.sendall(b"\0\0\0\0" + b"\xff\xff\xff\xff")
    with pytest.raises(ChannelClosed, match="at most"):
        other.receive(1.0)
    ours.close()
    other.close()


def test_missing_descriptors_are_noticed():
    ours, theirs = socket.socketpair()
    other = Channel(theirs)
    ours.sendall(b"\x02\0\0\0" + b"\x02\0\0\0{}")
    with pytest.raises(ChannelClosed, match="instead of 2"):
        other.receive(1.0)
    ours.close()
    other.close()
