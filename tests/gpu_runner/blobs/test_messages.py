"""The blob protocol's bytes."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.blobs import messages
from gpu_runner.blobs.messages import (
    CHUNK_BYTES,
    MAGIC,
    MOST_HEADER_BYTES,
    MOST_KEPT,
    Answer,
    Code,
    Get,
    Keep,
    Kept,
    Piece,
    Put,
    Refused,
    Request,
    Standing,
    Stat,
    encode,
    parse_answer,
    parse_request,
)

D = "ab" * 32
REQUESTS: list[tuple[Request, bytes]] = [
    (Stat(rid=1, digest=D), b""),
    (Put(rid=2, digest=D, size_bytes=5, offset=2), b"abc"),
    (Put(rid=2, digest=D, size_bytes=0, offset=0), b""),
    (Get(rid=3, digest=D, offset=7), b""),
    (Keep(rid=4, digests=(D,)), b""),
]
ANSWERS: list[tuple[Answer, bytes]] = [
    (Standing(rid=1, digest=D, offset=3, is_complete=False), b""),
    (Piece(rid=2, digest=D, offset=0, size_bytes=9), b"abc"),
    (Kept(rid=3, missing=(D,)), b""),
    (Refused(rid=4, code=Code.QUOTA, message="no"), b""),
]


@pytest.mark.parametrize("sent", REQUESTS)
def test_a_request_arrives_as_it_was_sent(sent):
    assert parse_request(encode(*sent)) == sent


@pytest.mark.parametrize("sent", ANSWERS)
def test_an_answer_arrives_as_it_was_sent(sent):
    assert parse_answer(encode(*sent)) == sent


def test_every_message_is_tried_here():
    assert {type(message) for message, _ in REQUESTS} == set(get_args(Request))
    assert {type(message) for message, _ in ANSWERS} == set(get_args(Answer))


def test_the_bytes_of_a_request_are_these():
    """Golden: a server of another version must read them."""
    assert encode(REQUESTS[1][0], b"abc") == [
        b"kp-blob/1",
        f'{{"rid":2,"kind":"blob.put","digest":"{D}","size_bytes":5,"offset":2}}'.encode(),
        b"abc",
    ]


header = encode(REQUESTS[0][0])[1]
PUT = encode(*REQUESTS[1])[1]


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "another protocol"),
        ([b"kp/1", header], "another protocol"),
        ([MAGIC], "not a header"),
        ([MAGIC, header, b"x", b"y"], "not a header"),
        ([MAGIC, b" " * (MOST_HEADER_BYTES + 1)], "not a header"),
        ([MAGIC, header, b"x"], "'blob.stat' and its frames"),
        ([MAGIC, PUT], "'blob.put' and its frames"),
        ([MAGIC, PUT, b"x" * (CHUNK_BYTES + 1)], "a chunk has at most"),
        ([MAGIC, b"\xff\xfe"], "not valid"),
        ([MAGIC, b"[" * 60_000], "not valid"),
        ([MAGIC, header.replace(b"1", b'"1"', 1)], "not valid"),
        ([MAGIC, header.replace(b"blob.stat", b"standing")], "not valid"),
        ([MAGIC, PUT.replace(b'"offset":2', b'"offset":-1'), b""], "not valid"),
        ([MAGIC, PUT.replace(b"ab", b"../", 1), b""], "not valid"),
    ],
)
def test_what_is_no_request_says_why(frames, said):
    parsed = parse_request(frames)
    assert isinstance(parsed, str)
    assert said in parsed


@given(st.lists(st.binary(max_size=60), max_size=4), st.booleans())
def test_no_bytes_raise_anything(frames, is_framed):
    whole = [MAGIC, *frames] if is_framed else frames
    for parse in (parse_request, parse_answer):
        parsed = parse(whole)
        assert isinstance(parsed, str | tuple)


def test_as_many_digests_as_may_be_kept_fit_a_header():
    full = Keep(rid=2**62, digests=(D,) * MOST_KEPT)
    assert len(encode(full)[1]) <= MOST_HEADER_BYTES
    assert parse_request(encode(full)) == (full, b"")
    answer = Kept(rid=2**62, missing=(D,) * MOST_KEPT)
    assert parse_answer(encode(answer)) == (answer, b"")
    assert messages.CREDIT * CHUNK_BYTES == 2 * 1024 * 1024
