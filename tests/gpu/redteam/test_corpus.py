"""The corpus is complete, compiles, and says what it means; no GPU is needed for that."""

import pytest

from gpu_runner.device.lowered import lower, read_index, refuse_invalid
from gpu_runner.jobs import Reason
from gpu_runner.languages import build, missing_toolchain
from gpu_runner.languages.artefact import Artefact, BuildRefused
from gpu_runner.records import Verdict
from tests.gpu.redteam.corpus import HERE, Item, candidate, manifest, victim
from tests.gpu.redteam.run import Ending, chosen

ITEMS = {item.file: item for item in manifest().items}
SHARED_NOTHING = {"kept_result.cu", "repeated_contents.cu", "workspace_memory.cu"}
"""Those with plans of several launches."""


def make_ending(item: Item, verdict: Verdict | None, reason: str = "") -> Ending:
    return Ending(item=item, verdict=verdict, reason=reason, message="", speedup=None, seconds=0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


# -- the manifest --------------------------------------------------------------------------------


def test_every_file_of_the_corpus_is_in_its_manifest():
    assert set(ITEMS) == {path.name for path in HERE.glob("*.cu")}
    assert len(manifest().items) == len(ITEMS) >= 12


def test_every_plan_belongs_to_a_file():
    plans = {path.name.removesuffix(".plan.json") for path in HERE.glob("*.plan.json")}
    assert {f"{stem}.cu" for stem in plans} <= set(ITEMS)
    several = {f for f in ITEMS if len(candidate(f).plans[0].launches) > 1}
    assert several == SHARED_NOTHING


def test_the_victim_has_the_workloads_named_and_every_hidden_one():
    assert [w.name for w in victim().public] == [
        *(w.name for w in victim().public if w.name in manifest().workloads)
    ]
    assert {w.name for w in victim().public} == set(manifest().workloads)
    assert len(victim().hidden) >= 6


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_an_item_says_what_stops_it(item):
    assert len(item.why) > 20
    assert bool(item.reasons) == (item.expected != "no_gain")
    text = (HERE / item.file).read_text()
    assert text.startswith("/* ")


# -- what it compiles to -------------------------------------------------------------------------


@pytest.mark.parametrize("file", ITEMS)
def test_it_builds_and_serves_every_shape_or_is_refused_as_it_must(file, cache):
    missing = missing_toolchain(candidate(file).language)
    if missing:
        pytest.skip(missing)
    problem = victim().problem
    refuse_invalid(problem, candidate(file).plans, candidate(file).language)
    made = build(problem, candidate(file), cache=cache, timeout_s=120)
    if Reason.FORBIDDEN_INSTRUCTION in ITEMS[file].reasons:
        assert isinstance(made, BuildRefused)
        assert made.reason is Reason.FORBIDDEN_INSTRUCTION
        return
    assert isinstance(made, Artefact), made
    kernels = read_index(made.path)
    for workload in victim().workloads:
        lowered = lower(problem, candidate(file).plans, kernels, workload)
        assert lowered.launches


# -- how an ending is judged ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "verdict", "reason", "is_right"),
    [
        ("spin.cu", Verdict.REJECTED, Reason.TIMED_OUT, True),
        ("spin.cu", Verdict.REJECTED, Reason.COMPILE_FAILED, False),
        ("spin.cu", Verdict.SLOWER, "", False),
        ("spin.cu", Verdict.FASTER, "", False),
        ("spin.cu", None, "unserved", False),
        ("pin_l2.cu", Verdict.SAME, "", True),
        ("pin_l2.cu", Verdict.AMBIGUOUS, "", True),
        ("pin_l2.cu", Verdict.FASTER, "", False),
        ("pin_l2.cu", Verdict.REJECTED, Reason.CRASHED, False),
        ("repeated_contents.cu", Verdict.SLOWER, "", True),
        ("repeated_contents.cu", Verdict.REJECTED, Reason.STALE_RESULT, True),
        ("repeated_contents.cu", Verdict.REJECTED, Reason.CRASHED, False),
    ],
)
def test_an_ending_is_judged_by_the_manifest(file, verdict, reason, is_right):
    ending = make_ending(ITEMS[file], verdict, str(reason))
    assert ending.is_as_expected is is_right


def test_items_are_chosen_by_name():
    assert chosen([]) == manifest().items
    assert [item.file for item in chosen(["spin", "pin_l2.cu"])] == ["spin.cu", "pin_l2.cu"]
    with pytest.raises(SystemExit, match="no item 'spun'"):
        chosen(["spun"])
