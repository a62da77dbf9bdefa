"""What a sentence asks for, what it leaves open, and what it cannot leave open."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import RequestIncomplete
from agents.request import KnownTarget, is_request, parse_request

MATMUL = KnownTarget(
    name="int8_scaled_mm",
    axes=("M", "N", "K"),
    inputs=("a", "b", "scale_a", "scale_b", "bias"),
    baselines=("torch eager", "torch compile", "torch compile max-autotune"),
    devices=("cpu", "cuda"),
    dtypes={"cpu": {"T": "float32"}, "cuda": {"T": "float16"}},
    goals={"cpu": "1.05 times the speed of torch eager", "cuda": "1.25 times the speed of best"},
)
SOFTMAX = KnownTarget(
    name="softmax",
    axes=("B", "N"),
    inputs=("x",),
    baselines=("torch eager", "torch compile"),
    devices=("cpu", "cuda"),
    dtypes={"cpu": {"T": "float32"}, "cuda": {"T": "bfloat16"}},
)
GELU = KnownTarget(name="gelu_tanh", axes=("M", "D"), devices=("cpu",))
LINEAR = KnownTarget(name="gemm_bias_act", axes=("M", "N", "K"), devices=("cpu", "cuda"))
KNOWN = (MATMUL, SOFTMAX, GELU, LINEAR)
ISSUE = (
    "Optimize int8_scaled_mm on H100 for M=64, N=2048, K=2048, fp16, bias; "
    "beat the baseline by 10 %"
)


def read(text: str):
    return parse_request(text, KNOWN)


def assumed(text: str, about: str) -> list[str]:
    return [line for line in read(text).assumptions if line.startswith(about)]


# -- the whole of one ----------------------------------------------------------------------------


def test_the_request_of_the_card_is_understood():
    found = read(ISSUE)
    assert found.target == "int8_scaled_mm"
    assert (found.device, found.arch) == ("cuda", "sm_90")
    assert found.shapes == ({"M": 64, "N": 2048, "K": 2048},)
    assert (found.dtype, found.speedup, found.against) == ("float16", 1.1, "")
    assert found.text == ISSUE
    assert [line.partition(":")[0] for line in found.assumptions] == [
        "hardware",
        "goal",
        "baseline",
    ]
    assert "1.1 times the baseline's, which is 9.1 % less time" in found.assumptions[1]


@pytest.mark.parametrize(
    "text",
    [
        "make softmax faster",
        "softmax, please",
        "optimise SOFTMAX over rows",
        "a faster soft­max softmax",
    ],
)
def test_a_name_alone_is_enough_and_everything_else_is_assumed(text):
    found = read(text)
    assert (found.target, found.device, found.shapes, found.speedup) == ("softmax", "", (), None)
    assert {line.partition(":")[0] for line in found.assumptions} == {
        "hardware",
        "shapes",
        "element type",
        "goal",
    }


# -- which kernel --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("speed up int8 scaled mm", "int8_scaled_mm"),
        ("speed up the w8a8 GEMM", "int8_scaled_mm"),
        ("speed up int8-gemm", "int8_scaled_mm"),
        ("a faster GELU", "gelu_tanh"),
        ("gemm_bias_act for me", "gemm_bias_act"),
        ("fuse it: the linear-GELU kernel", "gemm_bias_act"),
    ],
)
def test_kernels_go_by_other_names(text, name):
    assert read(text).target == name


def test_a_request_that_names_no_kernel_lists_those_there_are():
    with pytest.raises(RequestIncomplete, match=r"no kernel.*int8_scaled_mm, softmax, gelu_tanh"):
        read("make attention faster on H100")


def test_a_request_that_names_two_kernels_says_so():
    with pytest.raises(RequestIncomplete, match=r"several kernels \(softmax, gelu_tanh\)"):
        read("fuse softmax and gelu_tanh")


# -- hardware ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "device", "arch"),
    [
        ("on H200", "cuda", "sm_90"),
        ("on a B200", "cuda", "sm_100"),
        ("on an RTX 4090", "cuda", "sm_89"),
        ("on A100", "cuda", "sm_80"),
        ("on a GPU", "cuda", ""),
        ("on the CPU", "cpu", ""),
        ("", "", ""),
    ],
)
def test_hardware_is_a_device_and_where_it_is_named_an_architecture(words, device, arch):
    found = read(f"softmax {words} now")
    assert (found.device, found.arch) == (device, arch)


def test_two_gpus_of_one_architecture_are_one_and_of_two_are_an_error():
    assert read("softmax on H100 or H200").arch == "sm_90"
    with pytest.raises(RequestIncomplete, match="several architectures"):
        read("softmax on H100 and B200")


def test_a_device_that_the_target_is_not_written_for_is_an_error():
    with pytest.raises(RequestIncomplete, match="a device that gelu_tanh is written for: cpu"):
        read("gelu_tanh on H100")


# -- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "shapes"),
    [
        ("B=4 N=1024", [(4, 1024)]),
        ("b = 4, n: 1_024", [(4, 1024)]),
        ("B=4, N=1k", [(4, 1024)]),
        ("4x1024", [(4, 1024)]),
        ("4 x 1024", [(4, 1024)]),
        ("B in 1, 16 and N=128", [(1, 128), (16, 128)]),
        ("B=1 or 2, N=[64, 128]", [(1, 64), (1, 128), (2, 64), (2, 128)]),
        ("N=128, B=4, 20 % faster", [(4, 128)]),
        ("B=4, N=128, 2x faster", [(4, 128)]),
    ],
)
def test_shapes_are_read_as_people_write_them(words, shapes):
    found = read(f"softmax for {words}")
    assert [(shape["B"], shape["N"]) for shape in found.shapes] == shapes


def test_a_size_that_is_not_given_is_asked_for_with_everything_else_that_is_missing():
    with pytest.raises(RequestIncomplete) as error:
        read("int8_scaled_mm for M=64, Q=3, without bias, fp16 or bf16")
    lines = str(error.value).splitlines()[1:]
    assert lines == [
        "- Q=3: the axes of int8_scaled_mm are M, N, K",
        "- the size of N, K: write N=...",
        "- one element type: float16, bfloat16 are named",
        "- a kernel without bias: int8_scaled_mm has one; write a target file",
    ]


@pytest.mark.parametrize("words", ["B=0, N=4", "B=" + ",".join(map(str, range(1, 80))) + " N=4"])
def test_sizes_that_cannot_be_run_are_refused(words):
    with pytest.raises(RequestIncomplete):
        read(f"softmax for {words}")


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_any_sizes_come_back_as_they_were_written(m, n, k):
    found = read(f"int8_scaled_mm on H100, K={k}, M={m}, N={n}, by 5 %")
    assert found.shapes == ({"K": k, "M": m, "N": n},)
    assert found.speedup == pytest.approx(1.05)


# -- element type, goal, bias, budget ------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "dtype"), [("fp16", "float16"), ("BF16", "bfloat16"), ("float32", "float32")]
)
def test_an_element_type_is_read(word, dtype):
    assert read(f"softmax in {word} please").dtype == dtype


def test_an_element_type_that_is_not_said_is_the_targets():
    assert assumed("int8_scaled_mm on H100", "element type") == [
        "element type: T is float16, as the target says"
    ]


@pytest.mark.parametrize(
    ("words", "speedup"),
    [
        ("beat it by 10 %", 1.1),
        ("25% faster", 1.25),
        ("by 12.5 percent", 1.125),
        ("1.5x faster", 1.5),
        ("2 times the speed", 2.0),
        ("4x1024, twice", None),
        ("4 x 1024", None),
        ("as fast as it gets", None),
    ],
)
def test_a_goal_is_read_as_speed(words, speedup):
    found = read(f"softmax {words}").speedup
    assert found == (pytest.approx(speedup) if speedup else None)


@pytest.mark.parametrize(
    ("words", "against"),
    [
        ("beat torch compile by 10 %", "torch compile"),
        ("beat torch compile max-autotune by 10 %", "torch compile max-autotune"),
        ("beat the best baseline by 10 %", "best"),
        ("beat every baseline by 10 %", "best"),
        ("beat the baseline by 10 %", ""),
    ],
)
def test_a_baseline_is_read_and_the_longest_name_wins(words, against):
    assert read(f"int8_scaled_mm on H100: {words}").against == against


def test_a_bias_that_the_kernel_has_not_is_refused():
    with pytest.raises(RequestIncomplete, match="softmax has none"):
        read("softmax with bias")
    assert read("gemm_bias_act on the CPU").target == "gemm_bias_act"


@pytest.mark.parametrize(
    ("words", "rounds", "wall_s"),
    [
        ("in 20 rounds", 20, None),
        ("within 2 hours", None, 7200.0),
        ("within 90 min, 5 rounds", 5, 5400.0),
        ("for 1 day", None, None),
        ("for 2 days", None, 172800.0),
        ("", None, None),
    ],
)
def test_a_budget_is_read(words, rounds, wall_s):
    found = read(f"softmax {words} please")
    assert (found.rounds, found.wall_s) == (rounds, wall_s if words != "for 1 day" else 86400.0)


@given(st.text(max_size=120))
def test_any_text_is_understood_or_refused(text):
    with suppress(RequestIncomplete):
        assert read(f"softmax {text}").target in {target.name for target in KNOWN}


# -- sentence or name ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ISSUE, True),
        ("make softmax faster", True),
        ("softmax", False),
        ("targets/my kernel.yaml", False),
        ("", False),
        (" softmax ", False),
    ],
)
def test_a_sentence_is_told_from_a_name_and_a_path(text, expected):
    assert is_request(text) is expected
