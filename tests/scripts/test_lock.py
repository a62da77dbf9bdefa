import re

from hypothesis import given
from hypothesis import strategies as st

from scripts import lock

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,6}([-_.][A-Za-z0-9]{1,6}){0,2}", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}(\+[a-z]{1,4})?", fullmatch=True)


def test_local_versions_and_what_is_not_to_be_locked_are_left_out():
    installed = [("torch", "2.13.0+cpu"), ("kernelpilot", "0.1.0"), ("pip", "26"), ("A_b", "1")]
    assert lock.pins(installed) == ["a-b==1", "torch==2.13.0"]


@given(st.lists(st.tuples(NAMES, VERSIONS), max_size=20))
def test_pins_are_sorted_unique_and_exact(installed):
    lines = lock.pins(installed)
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines)


@given(st.lists(st.tuples(NAMES, VERSIONS), max_size=20))
def test_locking_a_lock_changes_nothing(installed):
    once = lock.pins(installed)
    assert lock.pins((line.split("==")[0], line.split("==")[1]) for line in once) == once


def test_the_heading_is_the_comment_at_the_top():
    assert lock.heading("# a\n# b\nx==1\n# c\n") == ["# a", "# b"]
    assert lock.heading("# only\n") == ["# only"]
    assert lock.heading("x==1\n") == []
