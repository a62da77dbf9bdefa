"""What is collected, as laws."""

from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.blobs.garbage import Entry, garbage

NOW_S = 1_000.0
digests = st.sampled_from([f"{n:064x}" for n in range(12)])
entries = st.lists(
    st.builds(Entry, digest=digests, size_bytes=st.integers(0, 100), used_s=st.floats(0.0, NOW_S)),
    unique_by=lambda entry: entry.digest,
)
live = st.frozensets(digests)
ages = st.floats(0, NOW_S)
sizes = st.integers(0, 400)


def collected(held, live, ttl_s, most_bytes):
    return garbage(held, live=live, now_s=NOW_S, ttl_s=ttl_s, most_bytes=most_bytes)


@given(entries, live, ages, sizes)
def test_what_is_live_stays(held, live, ttl_s, most_bytes):
    assert not {entry.digest for entry in collected(held, live, ttl_s, most_bytes)} & live


@given(entries, live, ages, sizes)
def test_what_is_left_fits_or_is_live(held, live, ttl_s, most_bytes):
    gone = set(collected(held, live, ttl_s, most_bytes))
    left = [entry for entry in held if entry not in gone]
    assert sum(entry.size_bytes for entry in left) <= most_bytes or {
        entry.digest for entry in left
    } <= live | {entry.digest for entry in left if entry.size_bytes == 0}


@given(entries, live, ages, sizes)
def test_what_is_old_goes(held, live, ttl_s, most_bytes):
    gone = set(collected(held, live, ttl_s, most_bytes))
    old = {e for e in held if NOW_S - e.used_s > ttl_s and e.digest not in live}
    assert old <= gone


@given(entries, live, ages)
def test_where_there_is_room_nothing_young_goes(held, live, ttl_s):
    room = sum(entry.size_bytes for entry in held)
    for entry in collected(held, live, ttl_s, room):
        assert NOW_S - entry.used_s > ttl_s


@given(entries, live, ages, sizes)
def test_the_oldest_goes_first(held, live, ttl_s, most_bytes):
    gone = set(collected(held, live, ttl_s, most_bytes))
    stayed = [e for e in held if e not in gone and e.digest not in live]
    if gone and stayed:
        assert max(e.used_s for e in gone) <= min(e.used_s for e in stayed)


@given(entries, live, ages, sizes)
def test_collecting_again_finds_nothing(held, live, ttl_s, most_bytes):
    gone = set(collected(held, live, ttl_s, most_bytes))
    assert collected([e for e in held if e not in gone], live, ttl_s, most_bytes) == ()
