"""What the gate knows of connections and keys, apart from any socket."""

from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.security.gate import Ledger, OpenGate
from gpu_runner.security.limits import Allowance
from gpu_runner.security.peers import AllowList, Holder, Role

FEW = Allowance(connections=3)
A, B = "a1" * 32, "b2" * 32
said = st.tuples(st.integers(0, 8).map(lambda n: bytes([n])), st.sampled_from([A, B]))


def test_a_connection_belongs_to_the_key_that_spoke_first():
    ledger = Ledger(FEW)
    assert ledger.notes(b"p", A, 1, 0.0)
    assert not ledger.notes(b"p", B, 1, 0.0)
    assert ledger.key_of(b"p") == A
    assert ledger.key_of(b"q") is None


def test_of_one_key_the_newest_connections_are_known():
    ledger = Ledger(FEW)
    for peer in (b"1", b"2", b"3", b"1", b"4"):
        assert ledger.notes(peer, A, 1, 0.0)
    assert [ledger.key_of(peer) for peer in (b"1", b"2", b"3", b"4")] == [A, None, A, A]


def test_many_connections_of_one_key_push_out_nobody_elses():
    ledger = Ledger(FEW)
    ledger.notes(b"mine", B, 1, 0.0)
    for number in range(100):
        ledger.notes(number.to_bytes(2, "big"), A, 1, 0.0)
    assert ledger.key_of(b"mine") == B


def test_what_one_key_sends_leaves_the_others_their_allowance():
    ledger = Ledger(Allowance(burst_messages=2, messages_per_s=1))
    assert [ledger.notes(b"p", A, 1, 0.0) for _ in range(4)] == [True, True, False, False]
    assert ledger.notes(b"q", B, 1, 0.0)
    assert ledger.notes(b"p", A, 1, 1.0)


def test_a_key_has_one_allowance_over_all_its_connections():
    ledger = Ledger(Allowance(burst_messages=2, messages_per_s=1))
    assert [ledger.notes(bytes([n]), A, 1, 0.0) for n in range(4)] == [True, True, False, False]


def test_keys_that_are_not_admitted_are_forgotten():
    ledger = Ledger(FEW)
    ledger.notes(b"p", A, 1, 0.0)
    ledger.notes(b"q", B, 1, 0.0)
    holders = (
        Holder(key=A, role=Role.CLIENT, name="a", revoked=True),
        Holder(key=B, role=Role.CLIENT, name="b"),
    )
    ledger.forget(AllowList(peer=holders))
    assert (ledger.key_of(b"p"), ledger.key_of(b"q")) == (None, B)
    assert ledger.notes(b"p", B, 1, 0.0)


@given(st.lists(said, max_size=60))
def test_whatever_is_said_connections_stay_few_and_never_change_hands(messages):
    ledger = Ledger(FEW)
    for peer, key in messages:
        before = ledger.key_of(peer)
        is_let_through = ledger.notes(peer, key, 1, 0.0)
        assert is_let_through == (before in {None, key})
        assert ledger.key_of(peer) == (before or key)
    known = [ledger.key_of(bytes([n])) for n in range(9)]
    assert max(known.count(A), known.count(B)) <= FEW.connections


def test_the_open_gate_objects_to_nothing():
    gate = OpenGate()
    assert gate.pair is None
    assert gate.objection(b"p", "hello", "anybody") == ""
    assert gate.reaches(b"p")
    assert gate.name_of(b"p") == "local"
