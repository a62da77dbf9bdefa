import pytest

from gpu_runner.facts import SassLedger
from graph.digest.build import build, chosen, confidence_word, shown, stalls_of
from graph.digest.model import Digest
from graph.errors import KernelNotFound
from tests.agents.diagnosis.kernels import KNOWN, known, make_kernel
from tests.graph.digest.builders import digest_of

THREE = (
    make_kernel(kernel="gemm_a", time_us=30.0),
    make_kernel(kernel="gemm_b", time_us=20.0),
    make_kernel(kernel="Softmax", time_us=10.0),
)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        (None, "gemm_a"),
        ("gemm_b", "gemm_b"),
        ("gemm_b(const float *, int)", "gemm_b"),
        ("gemm*", "gemm_a"),
        ("*_b", "gemm_b"),
        ("softmax", "Softmax"),
        ("MAX", "Softmax"),
        ("[", None),
        ("nothing", None),
    ],
)
def test_a_kernel_is_chosen_by_name_pattern_or_part(name, kernel):
    if kernel is None:
        with pytest.raises(KernelNotFound, match="it has gemm_a, gemm_b, Softmax"):
            chosen(THREE, name)
    else:
        assert chosen(THREE, name).kernel == kernel


def test_the_whole_name_wins_over_a_part_of_a_slower_ones():
    kernels = (make_kernel(kernel="k_long"), make_kernel(kernel="k"))
    assert chosen(kernels, "k") is kernels[1]


def test_many_kernels_are_named_only_in_part():
    kernels = [make_kernel(kernel=f"k{n}") for n in range(40)]
    with pytest.raises(KernelNotFound, match="and 28 more"):
        chosen(kernels, "x")


@pytest.mark.parametrize("name", KNOWN)
def test_a_digest_has_class_confidence_evidence_and_one_edit(name):
    digest = digest_of(name)
    assert digest.bottleneck == KNOWN[name]
    assert digest.confidence >= 0.8
    assert digest.evidence
    assert digest.next_edit.change
    assert digest.next_edit.expected.text
    assert digest.next_edit.symbol == name
    assert sum(line.is_chosen for line in digest.kernels) == 1
    assert len(digest.kernels) == 9


def test_a_digest_is_named_by_its_content():
    assert digest_of().digest_id == digest_of().digest_id
    assert digest_of().digest_id != digest_of("tiny").digest_id
    assert len(digest_of().digest_id) == 12


def test_a_digest_travels():
    digest = digest_of("spills")
    assert Digest.model_validate_json(digest.model_dump_json()) == digest


@pytest.mark.parametrize(
    ("name", "route"), [("dram_stream", "stop"), ("tiny", "stop"), ("spills", "edit")]
)
def test_the_route_says_whether_there_is_an_edit_worth_making(name, route):
    assert digest_of(name).route == route


def test_too_few_counters_are_a_reason_to_capture_again():
    bare = make_kernel(
        stalls={},
        pipes={},
        dram_fraction=None,
        l2_fraction=None,
        l1_fraction=None,
        sm_fraction=None,
        issue_fraction=None,
    )
    digest = build((bare,), report="r")
    assert (digest.bottleneck, digest.route, digest.confidence_word) == (
        "unknown",
        "capture",
        "low",
    )
    assert digest.missing
    assert digest.query is None


def test_what_limits_occupancy_is_evidence():
    texts = [line.text for line in digest_of("low_occupancy").evidence]
    assert "occupancy is limited to 3.1% by shared_mem" in texts


def test_evidence_has_value_threshold_and_its_source():
    line = digest_of("smem_bank_conflict").evidence[0]
    assert (line.metric, line.op, line.threshold) == ("shared_conflict_share", ">=", 0.3)
    assert line.shown == "96.9 %"
    assert "32 banks" in line.source


def test_what_is_expected_is_told_from_where_to_where():
    expected = digest_of("smem_bank_conflict").next_edit.expected
    assert (expected.metric, expected.direction, expected.factor) == (
        "shared_conflict_share",
        "down",
        0.1,
    )
    assert expected.text == "Bank conflicts down by 90 %, 96.9 % -> 9.7 %"


def test_a_share_is_never_expected_beyond_the_whole():
    kernel = make_kernel(occupancy_bound=0.3, occupancy_fraction=0.7)
    assert build((kernel,), report="r").next_edit.expected.text.endswith("-> 100.0 %")


def test_the_same_metric_before_and_after():
    kernels = known()
    before = kernels["low_occupancy"]
    after = before.model_copy(update={"time_us": 100.0, "occupancy_fraction": 0.5})
    digest = build((after,), report="new", against=(before,), against_report="old")
    assert digest.against is not None
    assert digest.against.headline == "100 us against 389.3 us: -74 %"
    assert digest.against.time_change_percent == pytest.approx(-74.32, abs=0.01)
    assert digest.against.bottleneck == "low_occupancy"
    changes = {one.metric: one.change for one in digest.against.changes}
    assert changes["occupancy_fraction"] == "+46.9 points"


def test_machine_code_is_held_against_the_other_reports():
    before = make_kernel(sass=SassLedger(total=9, kinds={"load_global_32": 4}))
    after = make_kernel(sass=SassLedger(total=6, kinds={"load_global_128": 1}))
    digest = build((after,), report="new", against=(before,), against_report="old")
    assert digest.against is not None
    assert digest.against.sass == (
        "instructions: 9 -> 6",
        "load_global_128: 1 new",
        "load_global_32: 4 gone",
    )


def test_reports_without_a_time_are_compared_all_the_same():
    one = make_kernel(time_us=None)
    digest = build((one,), report="new", against=(one,), against_report="old")
    assert digest.against is not None
    assert digest.against.time_change_percent is None
    assert digest.against.headline.startswith("no duration")


def test_a_kernel_that_the_other_report_lacks_is_an_error_with_its_names():
    with pytest.raises(KernelNotFound, match="old has no kernel 'gemm_a'"):
        build(THREE, report="new", against=(THREE[1], THREE[2]), against_report="old")


@pytest.mark.parametrize(
    ("confidence", "word"),
    [(0.95, "high"), (0.8, "high"), (0.79, "medium"), (0.55, "medium"), (0.2, "low")],
)
def test_confidence_in_words(confidence, word):
    assert confidence_word(confidence) == word


@pytest.mark.parametrize(
    ("signal", "value", "text"),
    [
        ("time_us", 850.0, "850 us"),
        ("stall_barrier", 0.5, "50.0 %"),
        ("pipe_xu", 0.25, "25.0 %"),
        ("grid_fraction", 0.25, "25.0 %"),
        ("busiest", 0.25, "25.0 %"),
        ("excess_bytes", 1.5, "1.5"),
        ("spill_bytes", 64.0, "64"),
    ],
)
def test_signals_are_shown_with_their_units(signal, value, text):
    assert shown(signal, value) == text


def test_groups_of_stalls_are_not_reasons():
    found = stalls_of(
        {
            "stall_memory": 0.9,
            "stall_long_scoreboard": 0.9,
            "stall_wait": 0.1,
            "stall_reasons": 2.0,
            "stall_drain": 0.001,
        }
    )
    assert found == {"long_scoreboard": 0.9, "wait": 0.1}
