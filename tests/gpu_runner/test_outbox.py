"""Nothing leaves before what it tells of is kept, and nobody hears things in another order."""

from hypothesis import given
from hypothesis import strategies as st

from gpu_runner import wire
from gpu_runner.outbox import Outbox
from gpu_runner.pool import Send
from gpu_runner.wire import Refusal
from tests.gpu_runner.executors import make_built

A, B = b"a", b"b"


def result(name="job"):
    return wire.Result(outcome=make_built(name))


def test_what_depends_on_nothing_unkept_leaves_at_once():
    outbox = Outbox()
    sends = (Send(A, result()), Send(B, wire.Pong(seq=1)))
    assert outbox.hold(sends, batch=3, committed=3) == sends
    assert len(outbox) == 0


def test_a_result_waits_for_its_commit():
    outbox = Outbox()
    send = Send(A, result())
    assert outbox.hold((send,), batch=2, committed=1) == ()
    assert outbox.release(1) == ()
    assert (outbox.release(2), outbox.release(2)) == ((send,), ())


def test_what_is_kept_meanwhile_leaves_before_what_is_new():
    outbox = Outbox()
    first, second = Send(A, result("1")), Send(A, result("2"))
    outbox.hold((first,), batch=1, committed=0)
    assert outbox.hold((second,), batch=2, committed=1) == (first,)
    assert outbox.release(2) == (second,)


def test_a_sign_of_life_passes_unless_its_peer_waits_for_something():
    outbox = Outbox()
    lease, pong = Send(A, result()), wire.Pong(seq=4)
    sends = (lease, Send(A, pong), Send(B, pong))
    assert outbox.hold(sends, batch=1, committed=0) == (Send(B, pong),)
    assert outbox.release(1) == (lease, Send(A, pong))
    assert outbox.hold((Send(A, pong),), batch=2, committed=1) == (Send(A, pong),)


def test_a_refusal_waits_too_for_it_tells_of_a_state():
    refused = wire.Refused(job_id="job", code=Refusal.UNKNOWN, message="submit it")
    assert Outbox().hold((Send(A, refused),), batch=1, committed=0) == ()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.sampled_from([A, B]), st.booleans(), st.booleans()),
        st.tuples(st.just("commit"), st.integers(1, 3)),
    ),
    max_size=60,
)


@given(STEPS)
def test_order_and_promises_hold_for_any_course_of_events(steps):
    outbox, batch, committed, number = Outbox(), 0, 0, 0
    needs: dict[int, int] = {}
    left: list[Send] = []

    def take(sends):
        for send in sends:
            assert isinstance(send.message, wire.Pong) or needs[number_of(send)] <= committed
            left.append(send)

    for step in steps:
        if step[0] == "commit":
            committed = min(batch, committed + step[1])
            take(outbox.release(committed))
            continue
        _, peer, has_entries, is_sign = step
        batch += has_entries
        number += 1
        needs[number] = batch
        message = wire.Pong(seq=number) if is_sign else result(f"job-{number}")
        take(outbox.hold((Send(peer, message),), batch, committed))
    take(outbox.release(batch if committed == batch else committed))
    for peer in (A, B):
        numbers = [number_of(send) for send in left if send.peer == peer]
        assert numbers == sorted(numbers)
    assert len(outbox) + len(left) == number


def number_of(send):
    if isinstance(send.message, wire.Pong):
        return send.message.seq
    return int(send.message.outcome.job_id.removeprefix("job-"))
