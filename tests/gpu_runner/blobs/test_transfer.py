"""Uploads and downloads over lines that lose and repeat, and processes that die in between.

The law: the bytes arrive equal, or there is a BlobError; nothing else ever becomes a blob.
"""

import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.blobs.messages import CHUNK_BYTES, CREDIT, BlobError, Code, Put, Refused, Standing
from gpu_runner.blobs.transfer import Download, Upload, numbers
from tests.gpu_runner.blobs.worlds import World, bytes_of, digest_of

SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 77)
DEEDS = ("deliver",) * 8 + ("lose", "repeat", "restart", "server dies", "client dies", "swap")
sizes = st.sampled_from(SIZES)
stories = st.lists(st.sampled_from(DEEDS), max_size=40)


class Line:
    """What is on the way in both directions, and what becomes of it."""

    def __init__(self, world, begin, receive):
        self.world = world
        self.begin = begin
        self.receive = receive
        self.transfer = begin()
        self.asked = []

    def do(self, deed):
        self.asked += self.transfer.requests()
        match deed:
            case "deliver" if self.asked:
                self._deliver(self.asked.pop(0))
            case "repeat" if self.asked:
                self._deliver(self.asked[0])
            case "lose" if self.asked:
                del self.asked[0]
            case "swap" if len(self.asked) > 1:
                self.asked[0], self.asked[1] = self.asked[1], self.asked[0]
            case "restart":
                self.transfer.restart()
            case "server dies":
                self.asked.clear()
                self.world.restart()
            case "client dies":
                self.asked.clear()
                self.transfer = self.begin()

    def _deliver(self, sent):
        self.receive(self.transfer, *self.world.answer(*sent))

    def finish(self):
        """From here on nothing is lost; whoever waits too long asks again."""
        for _ in range(200):
            if self.transfer.is_done:
                return
            self.asked += self.transfer.requests()
            if self.asked:
                self.do("deliver")
            else:
                self.transfer.restart()
        pytest.fail("it does not end")


def uploading(world, content, rids):
    return Line(
        world,
        lambda: Upload(digest_of(content), len(content), io.BytesIO(content), rids),
        lambda transfer, answer, _: transfer.receive(answer),
    )


def downloading(world, digest, target, rids):
    return Line(
        world,
        lambda: Download(digest, target, rids),
        lambda transfer, answer, content: transfer.receive(answer, content),
    )


@settings(max_examples=40)
@given(sizes, stories)
def test_an_upload_arrives_equal_whatever_happens(size, story):
    content = bytes_of(size)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        line = uploading(world, content, numbers())
        for deed in story:
            line.do(deed)
            assert world.whole(content) in {None, content}
        line.finish()
        assert world.whole(content) == content
        assert list((Path(folder) / "partial").iterdir()) == []
        world.store.close()


@settings(max_examples=40)
@given(sizes, stories)
def test_a_download_arrives_equal_whatever_happens(size, story):
    content = bytes_of(size)
    with tempfile.TemporaryDirectory() as folder:
        world, target = World(Path(folder)), io.BytesIO()
        world.put(content)
        line = downloading(world, digest_of(content), target, numbers())
        for deed in story:
            line.do(deed)
        line.finish()
        assert target.getvalue() == content
        world.store.close()


@settings(max_examples=30)
@given(sizes.filter(bool), stories, st.integers(0, 10**9), st.booleans())
def test_bytes_that_are_spoilt_on_disk_are_sent_again(size, story, place, is_longer):
    """A host that lost power may keep a file that is longer, or other, than what was written."""
    content = bytes_of(size)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        line = uploading(world, content, numbers())
        for deed in story:
            line.do(deed)
        for path in (Path(folder) / "partial").iterdir():
            spoilt = bytearray(path.read_bytes())
            if spoilt:
                spoilt[place % len(spoilt)] ^= 0xFF
            path.write_bytes(spoilt + b"x" * (CHUNK_BYTES if is_longer else 0))
        if not line.transfer.is_done:
            line.do("server dies")
        line.finish()
        assert world.whole(content) == content
        world.store.close()


@settings(max_examples=30)
@given(sizes, st.binary(max_size=60), sizes)
def test_a_part_that_is_not_the_blobs_beginning_is_dropped(size, junk, kept):
    content = bytes_of(size)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.put(content)
        target = io.BytesIO(content[:kept] + junk)
        line = downloading(world, digest_of(content), target, numbers())
        line.finish()
        assert target.getvalue() == content
        world.store.close()


def test_an_upload_keeps_its_credit_and_no_more(tmp_path):
    content = bytes_of(20 * CHUNK_BYTES)
    world = World(tmp_path)
    line = uploading(world, content, numbers())
    line.do("deliver")
    most = 0
    while not line.transfer.is_done:
        line.asked += line.transfer.requests()
        most = max(most, len(line.asked))
        line.do("deliver")
    assert most == CREDIT
    assert line.transfer.sent_bytes == len(content)
    world.store.close()


def test_a_blob_that_is_there_costs_one_question(tmp_path):
    content = bytes_of(3 * CHUNK_BYTES)
    world = World(tmp_path)
    world.put(content)
    line = uploading(world, content, numbers())
    line.do("deliver")
    assert line.transfer.is_done
    assert line.transfer.sent_bytes == 0
    world.store.close()


def test_an_interrupted_upload_sends_only_the_rest(tmp_path):
    content = bytes_of(10 * CHUNK_BYTES)
    world = World(tmp_path)
    first = uploading(world, content, numbers())
    for _ in range(7):  # the question and six chunks
        first.do("deliver")
    world.restart()
    second = uploading(world, content, numbers())
    second.finish()
    assert second.transfer.sent_bytes == 4 * CHUNK_BYTES
    assert world.whole(content) == content
    world.store.close()


def refusing(code):
    return Refused(rid=1, code=code, message="no")


@pytest.mark.parametrize("code", [c for c in Code if c is not Code.CORRUPT])
def test_a_refusal_ends_an_upload_with_its_reason(code):
    upload = Upload("0" * 64, 10, io.BytesIO(b"x" * 10), numbers())
    upload.requests()
    with pytest.raises(BlobError, match=f"refused \\({code}\\): no"):
        upload.receive(refusing(code))


def test_a_content_that_changes_under_way_ends_with_an_error(tmp_path):
    """The digest is of what it was; the server finds that out each time."""
    world = World(tmp_path)
    digest = digest_of(b"a" * 100)
    line = Line(
        world,
        lambda: Upload(digest, 100, io.BytesIO(b"b" * 100), numbers()),
        lambda transfer, answer, _: transfer.receive(answer),
    )
    with pytest.raises(BlobError, match="corrupt"):
        line.finish()
    world.store.close()


def test_a_file_that_became_shorter_is_said():
    upload = Upload("0" * 64, 10, io.BytesIO(b""), numbers())
    ((stat, _),) = upload.requests()
    upload.receive(Standing(rid=stat.rid, digest="0" * 64, offset=0, is_complete=False))
    with pytest.raises(BlobError, match="become shorter"):
        upload.requests()


def test_a_download_of_what_nobody_has_is_an_error(tmp_path):
    world = World(tmp_path)
    line = downloading(world, "0" * 64, io.BytesIO(), numbers())
    with pytest.raises(BlobError, match="nobody has put it"):
        line.finish()
    world.store.close()


def test_a_server_that_sends_other_bytes_is_not_believed(tmp_path):
    world = World(tmp_path)
    world.put(b"a" * 100)
    path = world.store._path(digest_of(b"a" * 100))
    path.write_bytes(b"b" * 100)
    target = io.BytesIO()
    line = downloading(world, digest_of(b"a" * 100), target, numbers())
    with pytest.raises(BlobError, match="not what its digest says, each time"):
        line.finish()
    world.store.close()


def test_answers_to_what_was_given_up_are_not_listened_to(tmp_path):
    world = World(tmp_path)
    content = bytes_of(2 * CHUNK_BYTES)
    line = uploading(world, content, numbers())
    line.do("deliver")
    late = [world.answer(*sent)[0] for sent in line.transfer.requests()]
    line.transfer.restart()
    for answer in late:
        line.transfer.receive(answer)
    assert not line.transfer.is_done
    line.finish()
    assert world.whole(content) == content
    world.store.close()


def test_requests_have_numbers_of_their_own():
    upload = Upload("0" * 64, CHUNK_BYTES * 3, io.BytesIO(bytes(CHUNK_BYTES * 3)), numbers())
    ((stat, _),) = upload.requests()
    upload.receive(Standing(rid=stat.rid, digest="0" * 64, offset=0, is_complete=False))
    sent = [request for request, _ in upload.requests()]
    assert all(isinstance(request, Put) for request in sent)
    assert len({stat.rid, *(request.rid for request in sent)}) == 4
    assert 0 not in {stat.rid, *(request.rid for request in sent)}
