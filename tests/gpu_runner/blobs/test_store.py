"""Blobs on disk: what is taken, kept, refused and collected."""

import os
import time
from pathlib import Path

import pytest

from gpu_runner.blobs.messages import Code, Get, Piece, Put, Refused, Standing, Stat
from gpu_runner.blobs.store import Store, StorePlan
from tests.gpu_runner.blobs.worlds import World, bytes_of, digest_of

SMALL = bytes_of(1000)
DIGEST = digest_of(SMALL)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "blobs")
    yield world
    world.store.close()


def put(content=SMALL, offset=0, part=None, size=None, digest=None):
    size = len(content) if size is None else size
    part = content[offset:] if part is None else part
    request = Put(rid=1, digest=digest or digest_of(content), size_bytes=size, offset=offset)
    return request, part


def standing(offset, *, is_complete=False, digest=DIGEST):
    return Standing(rid=1, digest=digest, offset=offset, is_complete=is_complete)


def code_of(answer):
    assert isinstance(answer[0], Refused), answer
    return answer[0].code


def test_a_blob_arrives_in_pieces_and_is_fetched(world):
    assert world.answer(*put(part=SMALL[:600])) == (standing(600), b"")
    assert world.answer(*put(offset=600)) == (standing(1000, is_complete=True), b"")
    assert world.whole(SMALL) == SMALL
    piece = Piece(rid=2, digest=DIGEST, offset=400, size_bytes=1000)
    assert world.answer(Get(rid=2, digest=DIGEST, offset=400)) == (piece, SMALL[400:])


def test_an_empty_blob_is_one_too(world):
    assert world.put(b"").is_complete
    assert world.whole(b"") == b""


def test_a_piece_is_at_most_a_chunk(world):
    content = bytes_of(300_000)
    world.put(content)
    _, piece = world.answer(Get(rid=1, digest=digest_of(content), offset=0))
    assert piece == content[: 256 * 1024]


@pytest.mark.parametrize("offset", [0, 300, 601, 900])
def test_bytes_for_another_place_are_not_taken(world, offset):
    world.answer(*put(part=SMALL[:600]))
    assert world.answer(*put(offset=offset)) == (standing(600), b"")
    assert world.answer(*put(offset=600)) == (standing(1000, is_complete=True), b"")


def test_a_blob_that_is_there_is_not_taken_again(world):
    world.put(SMALL)
    assert world.answer(*put(part=b"x" * 10)) == (standing(1000, is_complete=True), b"")
    assert world.answer(Stat(rid=1, digest=DIGEST), owner="other") == (
        standing(1000, is_complete=True),
        b"",
    )
    assert world.whole(SMALL) == SMALL


def test_what_arrived_before_a_restart_is_gone_on_with(world):
    world.answer(*put(part=SMALL[:600]))
    world.restart()
    assert world.answer(Stat(rid=1, digest=DIGEST)) == (standing(600), b"")
    assert world.answer(*put(offset=600)) == (standing(1000, is_complete=True), b"")
    world.restart()
    assert world.whole(SMALL) == SMALL
    assert world.answer(Stat(rid=1, digest=DIGEST)) == (standing(1000, is_complete=True), b"")


def test_a_server_that_died_before_the_last_step_takes_it_then(world):
    """Every byte is there, unverified: an empty put at the end has it verified."""
    (world.folder / "partial" / f"{DIGEST}.run").write_bytes(SMALL)
    assert world.answer(Stat(rid=1, digest=DIGEST)) == (standing(1000), b"")
    assert world.answer(*put(offset=1000)) == (standing(1000, is_complete=True), b"")


@pytest.mark.parametrize("restarted", [False, True])
def test_bytes_that_are_not_the_digests_never_become_a_blob(world, restarted):
    world.answer(*put(part=b"y" * 600))
    if restarted:
        world.restart()
    assert code_of(world.answer(*put(offset=600))) is Code.CORRUPT
    assert world.whole(SMALL) is None
    assert world.answer(Stat(rid=1, digest=DIGEST)) == (standing(0), b"")
    assert world.put(SMALL).is_complete


def test_a_partial_that_is_longer_than_its_blob_is_dropped(world):
    (world.folder / "partial" / f"{DIGEST}.run").write_bytes(b"y" * 2000)
    assert code_of(world.answer(*put())) is Code.CORRUPT
    assert world.put(SMALL).is_complete


def test_what_one_owner_sends_another_cannot_spoil(world):
    world.answer(*put(part=SMALL[:600]), "run")
    world.answer(*put(part=b"y" * 600), "enemy")
    assert code_of(world.answer(*put(offset=600), "enemy")) is Code.CORRUPT
    assert world.answer(*put(offset=600), "run") == (standing(1000, is_complete=True), b"")


@pytest.mark.parametrize(
    "request_and_part",
    [put(part=b"x" * 1001), put(offset=999, part=b"xx"), put(offset=5, part=b""), put(part=b"")],
)
def test_pieces_that_fit_no_blob_are_refused(world, request_and_part):
    assert code_of(world.answer(*request_and_part)) is Code.MALFORMED
    assert list((world.folder / "partial").iterdir()) == []


def test_what_nobody_put_is_unknown(world):
    assert code_of(world.answer(Get(rid=1, digest=DIGEST, offset=0))) is Code.UNKNOWN
    world.put(SMALL)
    assert code_of(world.answer(Get(rid=1, digest=DIGEST, offset=1001))) is Code.MALFORMED
    world.store._path(DIGEST).unlink()
    assert code_of(world.answer(Get(rid=1, digest=DIGEST, offset=0))) is Code.UNKNOWN


class TestQuota:
    PLAN = StorePlan(quota_bytes=2500)

    @pytest.fixture
    def world(self, tmp_path):
        world = World(tmp_path / "blobs", self.PLAN)
        yield world
        world.store.close()

    def test_an_owner_holds_as_much_as_it_may(self, world):
        assert world.put(bytes_of(1200, 1)).is_complete
        assert world.put(bytes_of(1300, 2)).is_complete
        assert code_of(world.answer(*put(bytes_of(1, 3)))) is Code.QUOTA
        assert world.put(bytes_of(2500, 4), "other").is_complete

    def test_what_is_announced_counts(self, world):
        big = bytes_of(2000, 1)
        world.answer(*put(big, part=big[:10]))
        assert code_of(world.answer(*put(bytes_of(600, 2)))) is Code.QUOTA
        assert world.put(bytes_of(400, 3)).is_complete

    def test_what_was_begun_before_a_restart_counts(self, world):
        big = bytes_of(2000, 1)
        world.answer(*put(big, part=big[:1500]))
        world.restart()
        assert code_of(world.answer(*put(bytes_of(1200, 2)))) is Code.QUOTA

    def test_an_announcement_that_is_refused_leaves_room(self, world):
        assert code_of(world.answer(*put(bytes_of(9999)))) is Code.QUOTA
        assert world.put(SMALL).is_complete

    def test_a_size_that_grows_on_the_way_is_refused(self, world):
        world.answer(*put(part=SMALL[:10]))
        assert code_of(world.answer(*put(offset=10, part=b"x", size=9999))) is Code.QUOTA

    def test_what_is_corrupt_leaves_room(self, world):
        world.answer(*put(bytes_of(2000), digest="0" * 64))
        assert world.put(bytes_of(2400, 5)).is_complete

    def test_names_with_points_are_their_own(self, world):
        assert world.put(bytes_of(2400, 1), "a.b").is_complete
        assert world.put(bytes_of(2400, 2), "b").is_complete


def used(world, content, ago_s):
    path = world.store._path(digest_of(content))
    when_s = time.time() - ago_s
    os.utime(path, (when_s, when_s))


def test_what_nobody_used_is_collected_and_what_was_kept_or_fetched_is_not(world):
    blobs = [bytes_of(100, n) for n in range(4)]
    for content in blobs:
        world.put(content)
        used(world, content, 1e9)
    kept, fetched, live, _ = map(digest_of, blobs)
    assert world.store.keep([kept, "0" * 64]) == ("0" * 64,)
    world.answer(Get(rid=1, digest=fetched, offset=0))
    gone = world.store.collect(now_s=time.time(), live={live})
    assert gone == (digest_of(blobs[3]),)
    assert [world.whole(content) is not None for content in blobs] == [True, True, True, False]
    world.restart()
    assert world.answer(Stat(rid=1, digest=gone[0])) == (standing(0, digest=gone[0]), b"")


def test_a_store_beyond_its_size_loses_the_oldest(tmp_path):
    world = World(tmp_path, StorePlan(most_bytes=250))
    for number in range(3):
        world.put(bytes_of(100, number))
        used(world, bytes_of(100, number), 1000 - number)
    assert world.store.collect(now_s=time.time()) == (digest_of(bytes_of(100, 0)),)
    world.store.close()


def test_partials_that_nobody_goes_on_with_are_collected(world):
    world.answer(*put(part=SMALL[:600]))
    world.store.collect(now_s=time.time())
    assert world.answer(Stat(rid=1, digest=DIGEST)) == (standing(600), b"")
    world.store.collect(now_s=time.time() + 2 * 86_400)
    assert world.answer(Stat(rid=1, digest=DIGEST)) == (standing(0), b"")
    assert list((world.folder / "partial").iterdir()) == []


def test_more_partials_than_open_files_go_on(world):
    contents = [bytes_of(200, n) for n in range(80)]
    for content in contents:
        world.answer(*put(content, part=content[:100]))
    assert len(world.store._open) == 64
    for content in contents:
        assert world.answer(*put(content, offset=100))[0].is_complete


def test_a_disk_that_is_full_is_said_and_the_rest_comes_later(tmp_path):
    world = World(tmp_path / "blobs")
    world.answer(*put(part=SMALL[:600]))
    (tmp_path / "blobs" / "whole").rename(tmp_path / "elsewhere")
    assert code_of(world.answer(*put(offset=600))) is Code.UNSTORED
    (tmp_path / "elsewhere").rename(tmp_path / "blobs" / "whole")
    assert world.answer(*put(offset=1000)) == (standing(1000, is_complete=True), b"")
    world.store.close()


def test_no_descriptor_is_left_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = Store(tmp_path, StorePlan())
    for number in range(70):
        content = bytes_of(10, number)
        store.put(put(content, part=content[:5])[0], "run", content[:5])
    store.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_files_of_others_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "README").write_text("not a blob")
    store = Store(tmp_path, StorePlan(most_bytes=0))
    assert store.collect(now_s=time.time()) == ()
    assert (tmp_path / "whole" / "README").exists()
    store.close()
