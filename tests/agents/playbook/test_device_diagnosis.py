"""Each rule for a GPU holds for its facts, in the order that makes later ones moot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.contexts import DigestContext
from agents.diagnosis.vocabulary import coarse
from agents.playbook import Playbook
from agents.playbook.catalogue import render
from agents.playbook.device_diagnosis import DEVICE_RULES, NEAR_ROOF, diagnose_device
from agents.playbook.diagnosis import RULES, diagnose
from gpu_runner.candidate import Language
from gpu_runner.facts import Facts, KernelFacts
from tests.agents.builders import make_past, make_view
from tests.agents.playbook.device import match_of, recipe_named, target_of
from tests.agents.playbook.test_diagnosis import make_roof


def make_kernel(**changes) -> KernelFacts:
    values = {
        "workload": "small",
        "kernel": "row_in_block_x4",
        "source": "counters",
        "dram_fraction": 0.8,
        "sm_fraction": 0.4,
        "occupancy_fraction": 0.45,
        "registers": 64,
        "spill_bytes": 0,
    }
    return KernelFacts(**{**values, **changes})


def facts_of(*kernels: KernelFacts, **roof) -> Facts:
    return Facts(tier="gpu", roofline=(make_roof(**roof),), kernels=kernels)


WAITING = make_kernel(
    dram_fraction=0.3, sm_fraction=0.2, occupancy_fraction=0.2, occupancy_limiters=("registers",)
)
CASES = {
    "near_roof": facts_of(make_kernel(spill_bytes=99), fraction_reached=0.95),
    "spills": facts_of(make_kernel(spill_bytes=64)),
    "launch_overhead": facts_of(make_kernel(), time_us=3.0, floor_us=1.0, fraction_reached=0.3),
    "latency": facts_of(WAITING),
    "memory_bandwidth": facts_of(make_kernel()),
    "compute": facts_of(make_kernel(), bound="compute"),
    "unknown": Facts(tier="gpu", unavailable=("counters: not permitted",)),
}


def named(facts: Facts) -> str:
    return diagnose(facts, make_view(), DEVICE_RULES).rule.bottleneck


@pytest.mark.parametrize("name", CASES)
def test_each_bottleneck_is_found_by_its_facts(name):
    found = diagnose(CASES[name], make_view(), DEVICE_RULES)
    assert found.rule.bottleneck == name
    assert all(found.evidence)


def test_the_table_has_one_rule_a_class_and_only_classes_of_the_schema():
    classes = [rule.bottleneck for rule in DEVICE_RULES]
    assert len(set(classes)) == len(classes)
    assert set(classes) == set(CASES) <= {rule.bottleneck for rule in RULES}


@pytest.mark.parametrize("rule", DEVICE_RULES, ids=lambda rule: rule.bottleneck)
def test_a_rule_explains_itself(rule):
    assert 0 < rule.confidence < 1
    assert rule.because
    assert rule.others_are_weaker
    assert (rule.expects.factor < 1) == (rule.expects.direction == "down")


@pytest.mark.parametrize(
    ("facts", "bottleneck"),
    [
        (facts_of(make_kernel(spill_bytes=16)), "memory_bandwidth"),
        (facts_of(make_kernel(spill_bytes=17)), "spills"),
        (facts_of(make_kernel(spill_bytes=None)), "memory_bandwidth"),
        (facts_of(time_us=5.0), "launch_overhead"),
        (facts_of(time_us=5.1), "memory_bandwidth"),
        (facts_of(time_us=5.0, bound="compute"), "compute"),
        (facts_of(WAITING.model_copy(update={"occupancy_fraction": 0.5})), "memory_bandwidth"),
        (facts_of(WAITING.model_copy(update={"dram_fraction": 0.6})), "memory_bandwidth"),
        (facts_of(WAITING.model_copy(update={"l2_fraction": 0.7})), "memory_bandwidth"),
        (facts_of(WAITING.model_copy(update={"sm_fraction": None})), "memory_bandwidth"),
        (facts_of(bound="latency", fraction_reached=0.1), "latency"),
        (facts_of(fraction_reached=NEAR_ROOF), "memory_bandwidth"),
        (facts_of(fraction_reached=0.99, time_us=4.0), "launch_overhead"),
    ],
)
def test_either_side_of_a_threshold(facts, bottleneck):
    assert named(facts) == bottleneck


def test_what_keeps_warps_away_is_in_the_evidence():
    (text,) = diagnose(CASES["latency"], make_view(), DEVICE_RULES).evidence
    assert "20% of the warps resident (limited by registers)" in text
    free = facts_of(WAITING.model_copy(update={"occupancy_limiters": ()}))
    assert "the number of blocks" in diagnose(free, make_view(), DEVICE_RULES).evidence[0]


@given(
    st.lists(
        st.builds(
            make_kernel,
            dram_fraction=st.none() | st.floats(0, 1),
            sm_fraction=st.none() | st.floats(0, 1),
            occupancy_fraction=st.none() | st.floats(0, 1),
            spill_bytes=st.none() | st.integers(0, 200),
        ),
        max_size=3,
    ),
    st.floats(0.6, 1e4),
    st.sampled_from(["memory", "compute", "latency"]),
)
def test_any_facts_are_named_by_the_first_rule_that_holds(kernels, time_us, bound):
    facts = facts_of(*kernels, time_us=time_us, bound=bound)
    holding = [rule for rule in DEVICE_RULES if rule.evidence(facts, make_view())]
    assert diagnose(facts, make_view(), DEVICE_RULES).rule is holding[0]


async def test_the_digest_of_a_gpu_profile_turns_one_parameter_of_the_recipe():
    recipe = recipe_named("softmax", "registers")
    spilling = {**recipe.defaults(), "keep": "floats"}
    view = make_view(
        problem=target_of("softmax").problem,
        tier="gpu",
        arch="sm_90a",
        isa=(),
        languages=(Language.CUDA,),
    )
    context = DigestContext(
        view=view,
        candidate=render(recipe, match_of("softmax"), spilling),
        attempt=make_past(0, recipe="registers", parameters=spilling),
        facts=CASES["spills"],
    )
    digest = await Playbook().digest(context)
    assert digest.bottleneck == "spills"
    assert (digest.next_edit.path, digest.next_edit.recipe) == ("kernel.cu", "registers")
    assert digest.next_edit.parameters == {**spilling, "keep": "packed"}


COUNTED = {
    "shared_memory_bank_conflicts": make_kernel(
        l1_fraction=0.9, shared_fraction=0.88, shared_conflict_share=0.75
    ),
    "low_occupancy": make_kernel(
        dram_fraction=0.2, occupancy_bound=0.1, occupancy_limiters=("registers",)
    ),
    "barrier_synchronisation": make_kernel(dram_fraction=0.2, stalls={"barrier": 0.8, "wait": 0.2}),
}


@pytest.mark.parametrize("name", COUNTED)
def test_counters_speak_before_the_roofline(name):
    found = diagnose_device(facts_of(COUNTED[name]), make_view())
    assert found.rule.bottleneck == name
    assert found.rule.name
    assert all("row_in_block_x4" in text for text in found.evidence)


def test_near_the_roof_counters_do_not_matter():
    facts = facts_of(COUNTED["low_occupancy"], fraction_reached=0.95)
    assert diagnose_device(facts, make_view()).rule.bottleneck == "near_roof"


def test_the_slowest_kernel_speaks():
    slow = COUNTED["low_occupancy"].model_copy(update={"time_us": 50.0})
    facts = facts_of(make_kernel(time_us=5.5), slow)
    assert diagnose_device(facts, make_view()).rule.bottleneck == "low_occupancy"


@pytest.mark.parametrize(
    "facts",
    [
        facts_of(make_kernel(source="arithmetic", occupancy_bound=0.1)),
        facts_of(make_kernel(dram_fraction=None, sm_fraction=None, occupancy_fraction=None)),
        facts_of(),
    ],
)
def test_without_counters_that_tell_the_roofline_does(facts):
    assert diagnose_device(facts, make_view()).rule.bottleneck == "memory_bandwidth"


@pytest.mark.parametrize("name", COUNTED)
async def test_a_fine_class_leads_to_what_treats_its_coarse_one(name):
    recipe = recipe_named("softmax", "registers")
    view = make_view(
        problem=target_of("softmax").problem,
        tier="gpu",
        arch="sm_90a",
        isa=(),
        languages=(Language.CUDA,),
    )
    context = DigestContext(
        view=view,
        candidate=render(recipe, match_of("softmax"), recipe.defaults()),
        attempt=make_past(0, recipe="registers", parameters=recipe.defaults()),
        facts=facts_of(COUNTED[name]),
    )
    digest = await Playbook().digest(context)
    assert digest.bottleneck == name
    assert digest.rule
    assert digest.next_edit.recipe
    assert {"softmax", "cuda", "sm_90"} <= set(digest.query.split())
    edits = [choice.answers for choice in recipe.choices]
    treats = {word for answers in edits for word in answers} | set(recipe.answers)
    assert coarse(name) in treats | {"latency"}
