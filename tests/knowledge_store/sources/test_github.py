import pytest

from knowledge_store.errors import SourceError
from knowledge_store.progress import Progress
from knowledge_store.sources import github
from knowledge_store.sources.catalogue import Catalogue, LedgerRow, Upstream
from knowledge_store.sources.forge import Forge
from knowledge_store.truth import Truth
from tests.knowledge_store.diff_builders import KERNEL, make_diff, make_pull
from tests.knowledge_store.sources.github_server import RESET, Hub, served

DIFF = KERNEL.encode()
DOCS = make_diff({"docs/notes.md": (["old"], ["new"])})


class Clock:
    """Sleeps without waiting, and says for how long it was asked to."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def now(self) -> float:
        return RESET - 30.0


@pytest.fixture
def hub():
    with_pulls = Hub()
    with served(with_pulls):
        yield with_pulls


@pytest.fixture
def truth(tmp_path):
    with Truth(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def clock():
    return Clock()


def fetch(truth, hub, clock, catalogue=None, most_wait_s=900.0, **given):
    forge = Forge(
        token="secret",
        base_url=hub.base_url,
        sleep=clock.sleep,
        now=clock.now,
        most_wait_s=most_wait_s,
    )
    return github.ingest_from(
        forge, truth, "owner/name", catalogue=catalogue or Catalogue(), **given
    )


def test_a_merged_change_is_taken_in_with_what_the_forge_knows_of_it(truth, hub, clock):
    hub.add(7, DIFF)
    report = fetch(truth, hub, clock)
    assert (report.changed, report.problems, report.stopped) == (1, [], "")
    pull = truth.pull("owner/name#7")
    assert (pull.title, pull.body, pull.author) == ("Change 7", "Faster.", "someone")
    assert (pull.labels, pull.licence, pull.base_branch) == (("perf",), "MIT", "main")
    assert (pull.merged_at, pull.merge_commit) == ("2026-01-08", f"{7:040x}")
    assert truth.diff("owner/name#7") == DIFF


def test_the_plain_call_reads_from_a_base_url(truth, hub):
    hub.add(7, DIFF)
    assert github.ingest(truth, "owner/name", base_url=f"{hub.base_url}/").changed == 1


def test_all_pages_are_read_and_each_change_once(truth, hub, clock):
    hub.page_size = 3
    for number in range(1, 12):
        hub.add(number, DIFF)
    told: list[Progress] = []
    report = fetch(truth, hub, clock, tell=told.append)
    assert report.changed == 11
    assert truth.counts().pulls == 11
    assert hub.asked("state=closed") == 4
    assert [step.done for step in told] == list(range(1, 12))


def test_what_was_closed_without_a_merge_is_passed_over(truth, hub, clock):
    hub.add(1, DIFF, merged_at=None)
    hub.add(2, DIFF)
    assert fetch(truth, hub, clock).total == 1


def test_a_second_call_asks_for_the_list_only_and_finds_it_as_it_was(truth, hub, clock):
    hub.page_size = 2
    for number in range(1, 6):
        hub.add(number, DIFF)
    fetch(truth, hub, clock)
    hub.requests.clear()
    report = fetch(truth, hub, clock)
    assert report.total == 0
    assert [path.partition("?")[0] for path, _ in hub.requests] == [
        "/repos/owner/name",
        "/repos/owner/name/pulls",
    ]


def test_only_what_was_updated_since_is_asked_for(truth, hub, clock):
    for number in range(1, 6):
        hub.add(number, DIFF)
    fetch(truth, hub, clock)
    hub.requests.clear()
    hub.add(6, DIFF)
    hub.add(2, DIFF, title="Retitled", updated_at="2026-02-01T00:00:00Z")
    report = fetch(truth, hub, clock)
    assert (report.changed, report.unchanged) == (2, 1)
    assert hub.asked("/pulls/") == 2
    assert truth.pull("owner/name#2").title == "Retitled"


def test_a_first_date_bounds_the_list(truth, hub, clock):
    for number in range(1, 11):
        hub.add(number, DIFF)
    assert fetch(truth, hub, clock, since="2026-01-06").changed == 6


def test_changes_beside_the_kernels_are_deferred_with_the_reason_and_asked_for_once(
    truth, hub, clock
):
    hub.add(1, DIFF)
    hub.add(2, DOCS)
    report = fetch(truth, hub, clock)
    assert (report.changed, report.deferred) == (1, 1)
    assert truth.pull("owner/name#2") is None
    reasons = {row.key: (row.decision, row.reason) for row in truth.decisions()}
    assert reasons["owner/name#1"] == ("include", "touches the kernel file csrc/attention.cu")
    assert reasons["owner/name#2"][0] == "defer"
    hub.requests.clear()
    fetch(truth, hub, clock)
    assert hub.asked("/pulls/") == 0


def test_paths_say_what_is_wanted(truth, hub, clock):
    hub.add(1, DIFF)
    hub.add(2, DOCS)
    report = fetch(truth, hub, clock, paths=("docs/*",))
    assert (report.changed, report.deferred) == (1, 1)
    assert list(truth.keys()) == ["owner/name#2"]
    assert fetch(truth, hub, clock, paths=("csrc/*",)).changed == 1


def test_a_decision_by_hand_overrides_and_spares_the_request(truth, hub, clock):
    hub.add(1, DIFF)
    row = LedgerRow(pull="owner/name#1", decision="defer", reason="a release")
    report = fetch(truth, hub, clock, Catalogue(ledger=(row,)))
    assert (report.deferred, hub.asked("/pulls/")) == (1, 0)
    assert truth.decisions()[0].reason == "a release"


def test_what_was_dropped_is_not_asked_for(truth, hub, clock):
    hub.add(1, DIFF)
    fetch(truth, hub, clock)
    truth.drop("owner/name#1", "its authors asked for it")
    hub.add(1, DIFF, updated_at="2026-03-01T00:00:00Z")
    hub.requests.clear()
    assert (fetch(truth, hub, clock).dropped, hub.asked("/pulls/")) == (1, 0)
    truth.restore("owner/name#1")
    assert fetch(truth, hub, clock).changed == 1


def test_a_diff_too_large_for_the_forge_is_put_together_from_its_files(truth, hub, clock):
    hub.page_size = 2
    hub.add(1, b"")
    hub.too_large = {1}
    report = fetch(truth, hub, clock)
    assert (report.changed, report.contained) == (1, {"assembled from files": 1})
    files = truth.files("owner/name#1")
    assert [(file.path, file.status) for file in files] == [
        ("csrc/part0.cu", "added"),
        ("csrc/part1.cu", "added"),
        ("csrc/part2.cu", "added"),
        ("a.png", "binary"),
        ("b.cu", "renamed"),
    ]
    assert truth.counts().unparsed == ()


def test_a_diff_that_is_gone_is_named(truth, hub, clock):
    hub.add(1, DIFF)
    del hub.diffs[1]
    report = fetch(truth, hub, clock)
    assert (report.changed, report.missing) == (1, ["owner/name#1"])
    assert truth.counts().missing == ("owner/name#1",)


@pytest.mark.parametrize(
    ("fault", "slept"),
    [
        ("limit", [31.0]),
        ("secondary", [60.0]),
        ("retry-after", [7.0]),
        ("500", [1.0]),
        ("503", [1.0]),
        ("cut", [1.0]),
        ("no json", [1.0]),
        ("drop", [1.0]),
    ],
)
def test_limits_are_waited_for_and_faults_repeated(truth, hub, clock, fault, slept):
    hub.add(1, DIFF)
    hub.faults = ["", fault]
    report = fetch(truth, hub, clock)
    assert (report.changed, report.stopped) == (1, "")
    assert clock.slept == slept


@pytest.mark.parametrize("fault", ["500", "cut", "no json", "drop"])
def test_a_forge_that_keeps_failing_is_an_error_and_costs_nothing_taken_in(
    truth, hub, clock, fault
):
    hub.page_size = 2
    for number in range(1, 5):
        hub.add(number, DIFF)
    hub.faults = ["", "", "", "", *[fault] * 5]
    with pytest.raises(SourceError, match="5 times; try again later"):
        fetch(truth, hub, clock)
    assert truth.counts().pulls == 2
    assert clock.slept == [1.0, 2.0, 4.0, 8.0]
    report = fetch(truth, hub, clock)
    assert (report.changed, report.unchanged) == (2, 2)


def test_a_limit_beyond_patience_ends_the_call_and_the_next_one_goes_on(truth, hub, clock):
    for number in range(1, 5):
        hub.add(number, DIFF)
    hub.faults = ["", "", "", "limit"]
    report = fetch(truth, hub, clock, most_wait_s=10.0)
    assert (report.changed, clock.slept) == (1, [])
    assert "rate limit; go on after 2033-05-18 03:33:21Z" in report.stopped
    report = fetch(truth, hub, clock)
    assert (report.changed, report.unchanged, report.stopped) == (3, 1, "")


@pytest.mark.parametrize("fault", ["forbidden", "401"])
def test_what_is_forbidden_is_not_repeated(truth, hub, clock, fault):
    hub.faults = [fault]
    with pytest.raises(SourceError, match="token"):
        fetch(truth, hub, clock)
    assert len(hub.requests) == 1


def test_an_unknown_repository_is_said(truth, clock):
    with served(Hub(repo="other/one")) as base_url:
        forge = Forge(base_url=base_url, sleep=clock.sleep)
        with pytest.raises(SourceError, match="does it exist"):
            github.ingest_from(forge, truth, "owner/name", catalogue=Catalogue())


def test_a_renamed_repository_is_followed_under_its_new_name(truth, hub, clock):
    hub.repo, hub.renamed_from = "owner/newer", "owner/name"
    hub.add(1, DIFF)
    assert fetch(truth, hub, clock).changed == 1
    assert list(truth.keys()) == ["owner/newer#1"]
    assert {token for _, token in hub.requests} == {"Bearer secret"}


@pytest.mark.parametrize("fault", ["elsewhere", "link elsewhere"])
def test_the_token_never_leaves_its_host(truth, hub, clock, fault):
    hub.faults = ["", fault]
    with pytest.raises(SourceError, match="another host"):
        fetch(truth, hub, clock)


def test_records_of_unknown_shape_are_problems_and_no_errors(truth, hub, clock):
    hub.add(1, DIFF)
    hub.add(2, DIFF, html_url=None)
    hub.pulls[2]["number"] = "two"
    hub.add(3, DIFF, labels="perf", body=None, user=None, base=None, merge_commit_sha="short")
    report = fetch(truth, hub, clock)
    assert (report.changed, len(report.problems)) == (2, 1)
    assert truth.pull("owner/name#3").labels == ()


def test_whoever_listens_hears_of_a_wait(truth, hub):
    hub.add(1, DIFF)
    hub.faults = ["500"]
    told: list[Progress] = []
    github.ingest(truth, "owner/name", base_url=hub.base_url, tell=told.append)
    assert [(step.stage, step.item) for step in told] == [
        ("wait", "owner/name: 1 s"),
        ("fetch", "owner/name#1"),
    ]


def test_several_limits_in_a_row_are_waited_for(truth, hub, clock):
    hub.add(1, DIFF)
    hub.faults = ["retry-after", "limit", "503", "secondary"]
    assert fetch(truth, hub, clock).changed == 1
    assert clock.slept == [7.0, 31.0, 4.0, 60.0]


def test_all_waits_of_a_request_together_are_bounded(truth, hub, clock):
    hub.add(1, DIFF)
    hub.faults = ["", "secondary", "secondary"]
    report = fetch(truth, hub, clock, most_wait_s=100.0)
    assert clock.slept == [60.0]
    assert "rate limit" in report.stopped
    assert truth.counts().pulls == 0


def test_a_listed_repository_begins_where_its_list_says(truth, hub, clock):
    upstream = Upstream(repo="owner/name", since="2026-01-10", kernel_paths=("csrc/*",))
    for number in range(1, 21):
        hub.add(number, DIFF)
    report = fetch(truth, hub, clock, Catalogue(upstreams=(upstream,)))
    assert report.changed == 12
    assert min(pull.merged_at for pull in truth.pulls()) == "2026-01-10"


def test_a_change_of_the_source_list_looks_at_everything_again(truth, hub, clock):
    hub.add(1, DIFF)
    hub.add(2, DOCS)
    fetch(truth, hub, clock)
    upstream = Upstream(repo="owner/name", licence="MIT", kernel_paths=("docs/*",))
    report = fetch(truth, hub, clock, Catalogue(upstreams=(upstream,)))
    assert (report.changed, report.deferred) == (1, 1)
    assert {row.key: row.decision for row in truth.decisions()} == {
        "owner/name#1": "defer",
        "owner/name#2": "include",
    }


def test_a_forge_that_says_no_licence_leaves_it_unknown(truth, hub, clock):
    hub.licence = "NOASSERTION"
    hub.add(1, DIFF)
    fetch(truth, hub, clock)
    assert truth.pull("owner/name#1").licence == "unknown"


def test_a_change_that_came_as_a_bundle_keeps_what_only_the_bundle_knew(truth, hub, clock):
    truth.put(make_pull(number=1, body="The bundle's body", licence="BSD-3-Clause"), None)
    hub.licence = "NOASSERTION"
    hub.add(1, DIFF, body=None)
    assert fetch(truth, hub, clock).changed == 1
    pull = truth.pull("owner/name#1")
    assert (pull.origin, pull.body, pull.licence) == ("github", "The bundle's body", "BSD-3-Clause")
    assert truth.diff("owner/name#1") == DIFF
