import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.ncu_csv import ProfiledLaunch
from gpu_runner.device.ncu_memory import memory_facts

REQUESTS = "l1tex__t_requests_pipe_lsu_mem_global_op_{}.sum"
SECTORS = "l1tex__t_sectors_pipe_lsu_mem_global_op_{}.sum"
LOCAL = "l1tex__t_sectors_pipe_lsu_mem_local_op_{}.sum"
WAVEFRONTS = "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"
CONFLICTS = "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum"
IDEAL = "memory_l2_theoretical_sectors_global_ideal"
ACTUAL = "memory_l2_theoretical_sectors_global"
EXCESS = "derived__memory_l2_theoretical_sectors_global_excessive"
PER_SECTOR = "smsp__sass_average_data_bytes_per_sector_mem_global_op_{}.ratio"
SHARED = "smsp__inst_executed_op_shared_atom.sum"


def of(readings):
    return memory_facts(ProfiledLaunch(index=0, kernel="k", readings=readings))


def test_nothing_measured_is_none_and_not_zero():
    assert set(of({}).values()) == {None}


@pytest.mark.parametrize(
    ("readings", "use"),
    [
        ({ACTUAL: 80.0, IDEAL: 20.0}, 0.25),
        ({ACTUAL: 80.0, EXCESS: 20.0}, 0.75),
        ({PER_SECTOR.format("ld"): 8.0}, 0.25),
        (
            {
                PER_SECTOR.format("ld"): 8.0,
                SECTORS.format("ld"): 30.0,
                PER_SECTOR.format("st"): 32.0,
                SECTORS.format("st"): 10.0,
            },
            0.4375,
        ),
        ({PER_SECTOR.format("ld"): 0.0}, None),
        ({PER_SECTOR.format("ld"): 32.0, SECTORS.format("ld"): 0.0}, None),
        ({ACTUAL: 0.0, IDEAL: 0.0}, None),
        ({ACTUAL: 10.0, IDEAL: 20.0}, 1.0),
    ],
)
def test_use_of_sectors_from_whatever_the_version_counts(readings, use):
    assert of(readings)["sector_use"] == use


def test_sectors_a_request():
    facts = of(
        {
            REQUESTS.format("ld"): 10.0,
            SECTORS.format("ld"): 320.0,
            REQUESTS.format("st"): 0.0,
            SECTORS.format("st"): 0.0,
        }
    )
    assert facts["load_sectors_per_request"] == 32
    assert facts["store_sectors_per_request"] is None


@pytest.mark.parametrize(
    ("readings", "share", "ways"),
    [
        (
            {"memory_l1_wavefronts_shared": 320.0, "memory_l1_wavefronts_shared_ideal": 10.0},
            0.96875,
            32.0,
        ),
        ({WAVEFRONTS: 40.0, CONFLICTS: 30.0}, 0.75, 4.0),
        ({WAVEFRONTS: 40.0, CONFLICTS: 0.0}, 0.0, 1.0),
        ({WAVEFRONTS: 40.0, CONFLICTS: 40.0}, 1.0, None),
        ({WAVEFRONTS: 0.0, CONFLICTS: 0.0}, None, None),
        ({CONFLICTS: 3.0}, None, None),
    ],
)
def test_conflicts_are_passes_that_need_not_be(readings, share, ways):
    facts = of(readings)
    assert facts["shared_conflict_share"] == share
    assert facts["shared_conflict_ways"] == ways


def test_local_traffic_is_a_share_of_what_l1_looks_up():
    facts = of(
        {
            LOCAL.format("ld"): 30.0,
            LOCAL.format("st"): 30.0,
            SECTORS.format("ld"): 40.0,
            "smsp__inst_executed_op_local_ld.sum": 5.0,
            "smsp__inst_executed.sum": 50.0,
        }
    )
    assert facts["local_sector_share"] == 0.6
    assert facts["local_instruction_share"] == 0.1
    assert of({LOCAL.format("ld"): 0.0})["local_sector_share"] == 0.0


@pytest.mark.parametrize(
    ("readings", "share"),
    [
        ({REQUESTS.format("red"): 5.0, REQUESTS.format("ld"): 15.0}, 0.25),
        ({REQUESTS.format("atom"): 0.0, REQUESTS.format("ld"): 5.0}, 0.0),
        ({SHARED: 8.0, "smsp__inst_executed_op_shared.sum": 8.0, REQUESTS.format("ld"): 8.0}, 0.5),
        ({"lts__t_requests_srcunit_tex_op_red.sum": 9.0}, 1.0),
        ({"smsp__inst_executed_op_global_red.sum": 4.0, REQUESTS.format("ld"): 12.0}, 0.25),
        ({REQUESTS.format("ld"): 5.0}, None),
    ],
)
def test_atomics_are_a_share_of_the_requests(readings, share):
    assert of(readings)["atomic_request_share"] == share


@given(
    st.dictionaries(
        st.sampled_from(
            [
                REQUESTS.format("ld"),
                SECTORS.format("ld"),
                LOCAL.format("st"),
                WAVEFRONTS,
                CONFLICTS,
                ACTUAL,
                IDEAL,
                EXCESS,
                SHARED,
                REQUESTS.format("atom"),
            ]
        ),
        st.floats(min_value=0, max_value=1e30),
    )
)
def test_shares_lie_between_nothing_and_all(readings):
    for name, value in of(readings).items():
        if isinstance(value, float) and (name.endswith("_share") or name == "sector_use"):
            assert 0 <= value <= 1, name
