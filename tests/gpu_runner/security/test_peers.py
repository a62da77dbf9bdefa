"""The allow-list: its text, what may be on it, and what a role may say."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gpu_runner import wire
from gpu_runner.blobs import messages
from gpu_runner.errors import PoolError
from gpu_runner.security.peers import SPEAKS, AllowList, Holder, Role, parse, render

A, B, C = ("a1" * 32, "b2" * 32, "c3" * 32)

keys = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)


@st.composite
def lists(draw):
    roles = draw(st.dictionaries(names, st.sampled_from(Role), max_size=4))
    chosen = draw(st.lists(keys, unique=True, max_size=6)) if roles else []
    owners = [draw(st.sampled_from(sorted(roles))) for _ in chosen]
    return AllowList(
        peer=tuple(
            Holder(key=key, role=roles[name], name=name, revoked=draw(st.booleans()))
            for key, name in zip(chosen, owners, strict=True)
        )
    )


def holder(key=A, role=Role.WORKER, name="gpu-1", **changes):
    return Holder(key=key, role=role, name=name, **changes)


@given(lists())
def test_a_list_survives_its_text(allowed):
    assert parse(render(allowed)) == allowed


@given(lists(), keys)
def test_whoever_is_enrolled_is_admitted_and_whoever_is_revoked_is_not(allowed, key):
    new = holder(key, name="somebody-else.entirely")
    if any(h.name == new.name or h.key == key for h in allowed.peer):
        return
    changed = allowed.enrolled(new)
    assert changed.admitted(key) == new
    struck, who = changed.revoking(key)
    assert [h.key for h in who] == [key]
    assert struck.admitted(key) is None
    assert [h.key for h in struck.peer] == [h.key for h in changed.peer]
    for other in allowed.peer:
        assert struck.admitted(other.key) == allowed.admitted(other.key)


@given(lists())
def test_only_those_on_the_list_and_not_revoked_are_admitted(allowed):
    admitted = {h.key for h in allowed.peer if allowed.admitted(h.key)}
    assert admitted == {h.key for h in allowed.peer if not h.revoked}


@pytest.mark.parametrize("key", ["", "ff" * 32, A.upper(), "None"])
def test_nobody_else_is_admitted(key):
    assert AllowList(peer=(holder(),)).admitted(key) is None


def test_a_name_may_have_two_keys_while_one_replaces_the_other():
    both = AllowList().enrolled(holder(A)).enrolled(holder(B))
    assert (both.admitted(A), both.admitted(B)) == (holder(A), holder(B))
    struck, who = both.revoking("gpu-1")
    assert {h.key for h in who} == {A, B}
    assert struck.admitted(A) is struck.admitted(B) is None


def test_one_key_of_a_name_is_struck_alone():
    both = AllowList().enrolled(holder(A)).enrolled(holder(B))
    struck, _ = both.revoking(A)
    assert (struck.admitted(A), struck.admitted(B)) == (None, holder(B))


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (holder(A, name="gpu-2"), "enrolled already"),
        (holder(B, Role.CLIENT), "two roles"),
    ],
)
def test_what_would_be_ambiguous_is_not_enrolled(second, said):
    with pytest.raises(PoolError, match=said):
        AllowList().enrolled(holder()).enrolled(second)


def test_a_revoked_key_does_not_come_back():
    struck, _ = AllowList().enrolled(holder()).revoking(A)
    with pytest.raises(PoolError, match="revoked; make a new pair"):
        struck.enrolled(holder())
    with pytest.raises(PoolError, match="no enrolled key or name is 'gpu-1'; enrolled: nobody"):
        struck.revoking("gpu-1")


def test_a_name_that_is_unknown_is_answered_by_those_that_are():
    with pytest.raises(PoolError, match="enrolled: gpu-1, run-a"):
        AllowList(peer=(holder(), holder(B, Role.CLIENT, "run-a"))).revoking("gpu-2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("peer = 3", "peer"),
        ("[[peer]]", "peer.0.key: Field required"),
        (f'[[peer]]\nkey = "{A}"\nrole = "king"\nname = "a"', "peer.0.role"),
        (f'[[peer]]\nkey = "{A}"\nrole = "client"\nname = "A b"', "peer.0.name"),
        (f'[[peer]]\nkey = "{A[:-1]}"\nrole = "client"\nname = "a"', "peer.0.key"),
        (f'[[peer]]\nkey = "{A}"\nrole = "client"\nname = "a"\ntags = 1', "peer.0.tags"),
        ("[[peer", "no TOML"),
        (2 * f'[[peer]]\nkey = "{A}"\nrole = "client"\nname = "a"\n', "twice"),
        ("peers = []", "peers: Extra inputs"),
    ],
)
def test_a_text_that_is_no_list_says_where(text, said):
    with pytest.raises(PoolError, match=said):
        parse(text)


def test_names_and_keys_are_only_what_the_text_can_hold():
    for changes in ({"name": 'a"'}, {"name": ""}, {"key": f'{A[:-1]}"'}, {"name": "a\n"}):
        with pytest.raises(ValidationError):
            holder(**changes)


OF_BLOBS = {m.model_fields["kind"].default for m in get_args(messages.Request)}
KINDS = {m.model_fields["kind"].default for m in get_args(wire.ToBroker)}
FROM_CLIENT = {m.model_fields["kind"].default for m in get_args(wire.FromClient)}
FROM_WORKER = {m.model_fields["kind"].default for m in get_args(wire.FromWorker)}


def test_every_kind_of_message_has_a_role_that_may_send_it():
    assert set().union(*SPEAKS.values()) == KINDS | OF_BLOBS


def test_clients_and_workers_say_exactly_what_the_wire_gives_them():
    assert SPEAKS[Role.CLIENT] == FROM_CLIENT | OF_BLOBS
    assert SPEAKS[Role.WORKER] == FROM_WORKER | OF_BLOBS
    assert not SPEAKS[Role.OPERATOR] & {"submit", "hello", "done"}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("kind", sorted(KINDS | OF_BLOBS))
def test_a_role_says_its_own_kinds_and_no_other(role, kind):
    why = holder(role=role).objection(kind, None)
    assert bool(why) == (kind not in SPEAKS[role])
    if why:
        assert "gpu-1" in why
        assert repr(kind) in why


def test_a_worker_says_hello_by_its_own_name_only():
    assert holder().objection("hello", "gpu-1") == ""
    assert "may not say hello as 'gpu-2'" in holder().objection("hello", "gpu-2")
