"""An operator's connection: questions, orders, and events without gaps."""

import threading
from itertools import islice

import pytest
import zmq

from gpu_runner import wire
from gpu_runner.console import Console
from gpu_runner.errors import PoolError
from gpu_runner.journal import Entry
from gpu_runner.keeping import StoreKeeper
from gpu_runner.operations import Action, Beacon, Change, Event, Pruned
from gpu_runner.publishing import Listener, Publisher
from gpu_runner.wire import MAGIC
from tests.gpu_runner.bus_threads import Peer, serving
from tests.gpu_runner.executors import make_job, seen

FLOOD = 9000
"""Beyond what publisher and listener queue together."""
PAGE = 500


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/bus"


@pytest.fixture
def published(tmp_path):
    return f"ipc://{tmp_path}/events"


def submit(endpoint, *names):
    with Peer(endpoint, wire.TO_CLIENT) as client:
        for name in names:
            client.send(wire.Submit(job=make_job(name)))
            assert isinstance(client.receive(), wire.Submitted)


def make_event(seq, job_id="job"):
    return Event(seq=seq, epoch=1, at_s=0.0, change=Change.SUBMITTED, job_id=job_id)


def test_the_state_says_what_the_shell_knows(endpoint, published, tmp_path):
    with serving(endpoint, keeper=StoreKeeper(tmp_path, 1), events=published):
        with Peer(endpoint, wire.TO_CLIENT) as stranger:
            stranger.send_frames(MAGIC, b"nonsense")
            stranger.receive()
        with Console(endpoint) as console:
            state = console.survey()
    assert (state.is_kept, state.malformed, state.events) == (True, {"body": 1}, published)
    assert state.unkept_messages == 0


def test_an_order_is_answered_in_words_or_refused(endpoint):
    with serving(endpoint), Console(endpoint) as console:
        assert "gets no further job" in console.manage(Action.DRAIN, "w1", "a disk")
        with pytest.raises(PoolError, match="'job' is not known here"):
            console.manage(Action.REQUEUE, "job")
        assert "gets jobs again" in console.manage(Action.RELEASE, "w1")


def test_without_a_broker_a_remedy_is_named(endpoint):
    with Console(endpoint, patience_s=0.1) as console, pytest.raises(PoolError) as caught:
        console.survey()
    assert f"start one with: kernelpilot-runner broker --endpoint {endpoint}" in str(caught.value)


def test_history_is_read_page_by_page(endpoint, tmp_path):
    names = [f"w{number}" for number in range(1100)]
    earlier = StoreKeeper(tmp_path, 1)
    earlier.write([Entry(change=Change.LEFT, worker=name) for name in names])
    earlier.close()
    with serving(endpoint, keeper=StoreKeeper(tmp_path, 1)), Console(endpoint) as console:
        events = list(console.history(0))
        rest = list(console.history(1000))
    assert [e.worker for e in events if isinstance(e, Event)] == names
    assert rest == events[1000:]


def test_what_was_pruned_is_said(endpoint, tmp_path):
    keeper = StoreKeeper(tmp_path, 1)
    with serving(endpoint, keeper=keeper):
        submit(endpoint, "a", "b", "c")
    again = StoreKeeper(tmp_path, 1)
    again._store.prune(most_events=1, finished_before_s=0.0)
    with serving(endpoint, keeper=again), Console(endpoint) as console:
        pruned, event = console.history(0)
        assert pruned == Pruned(after_seq=0, first_seq=3)
        assert isinstance(event, Event)
        assert (event.seq, event.job_id) == (3, "c")
        assert list(console.history(2)) == [event]


def test_a_broker_in_memory_that_began_anew_is_noticed(endpoint):
    with serving(endpoint):
        submit(endpoint, "a")
        with Console(endpoint) as console:
            pruned, event = console.history(500)
    assert isinstance(pruned, Pruned)
    assert isinstance(event, Event)
    assert (pruned.after_seq, event.seq) == (500, 1)


@pytest.mark.parametrize("is_published", [True, False])
def test_events_are_followed_in_order_and_each_once(endpoint, published, tmp_path, is_published):
    keeper = StoreKeeper(tmp_path, 1)
    events = published if is_published else None
    names = [f"job-{number}" for number in range(30)]
    with serving(endpoint, keeper=keeper, events=events), Console(endpoint) as console:
        submit(endpoint, *names[:10])
        source = console.follow(0, console.survey().events)
        told = list(islice(source, 10))
        later = threading.Thread(target=submit, args=(endpoint, *names[10:]))
        later.start()
        told += list(islice(source, 20))
        later.join()
    assert [item.job_id for item in told if isinstance(item, Event)] == names


class Told:
    """A console whose history and publisher a test writes."""

    def __init__(self, context, published, pages):
        self.publisher = Publisher(context, published, epoch=1)
        self.console = Console("ipc:///nowhere")
        self.asked: list[int] = []

        def history(after_seq):
            self.asked.append(after_seq)
            return iter([event for event in pages() if event.seq > after_seq])

        self.console.history = history  # type: ignore[method-assign]  # the broker's side


def test_a_missed_event_is_fetched_and_none_comes_twice(published):
    known = [make_event(1)]
    with zmq.Context() as context:
        told = Told(context, published, lambda: known)
        with told.console as console:
            source = console.follow(0, published)
            first = next(source)
            wait_for_listener(told.publisher, known)
            known += [make_event(seq) for seq in (2, 3, 4)]
            told.publisher.publish([make_event(4)])  # 2 and 3 were lost
            told.publisher.publish([make_event(3)])  # late, or of a repetition
            rest = list(islice(source, 3))
        told.publisher.close()
    assert [seen(event).seq for event in (first, *rest)] == [1, 2, 3, 4]


def test_a_slow_dashboard_misses_nothing(published):
    """It reads late and slowly; what its queue could not hold comes from the history."""
    known = [make_event(seq) for seq in range(1, FLOOD + 1)]
    told_s: list[Event] = []
    with zmq.Context() as context:
        told = Told(context, published, lambda: known[: len(told_s) + PAGE])
        with told.console as console:
            source = console.follow(0, published)
            told_s.append(seen(next(source)))
            wait_for_listener(told.publisher, known[:1])
            for begin in range(0, FLOOD, PAGE):
                told.publisher.publish(known[begin : begin + PAGE])
                told_s += map(seen, islice(source, PAGE // 2))  # half as fast as they happen
            told.publisher.tick(2e9, FLOOD)
            while len(told_s) < FLOOD:
                told_s.append(seen(next(source)))
        told.publisher.close()
    assert [event.seq for event in told_s] == list(range(1, FLOOD + 1))
    assert max(told.asked) > 2 * PAGE, "events were lost long after it had begun to listen"


def wait_for_listener(publisher, known):
    """Subscriptions arrive when they arrive; a beacon that says nothing new shows nothing."""
    publisher.tick(1e9, known[-1].seq)


def test_a_beacon_tells_of_events_that_nobody_heard(published):
    with zmq.Context() as context:
        publisher = Publisher(context, published, epoch=4)
        listener = Listener(context, published)
        heard, now_s = None, 0.0
        while heard is None:
            now_s += 2.0
            publisher.tick(now_s, last_seq=17)
            publisher.tick(now_s + 0.5, last_seq=99)  # too soon
            heard = listener.heard(0.05)
        assert heard == Beacon(epoch=4, last_seq=17)
        publisher.publish([make_event(18)])
        assert listener.heard(10.0) == make_event(18)
        assert listener.heard(0.01) is None
        listener.close()
        publisher.close()


def test_events_are_published_on_loopback_only_and_at_a_free_place(published):
    with zmq.Context() as context:
        with pytest.raises(PoolError, match="not loopback"):
            Publisher(context, "tcp://0.0.0.0:7767", 1)
        publisher = Publisher(context, "tcp://127.0.0.1:*", 1)
        assert publisher.endpoint.startswith("tcp://127.0.0.1:")
        with pytest.raises(PoolError, match="cannot publish events"):
            Publisher(context, publisher.endpoint, 1)
        with pytest.raises(PoolError, match="cannot listen to events"):
            Listener(context, "nonsense")
        publisher.close()
