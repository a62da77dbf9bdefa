"""Whether PTX, cubin and plans agree, and in whose words they do not."""

import pytest

from gpu_runner.candidate import Language, Launch, LaunchPlan
from gpu_runner.device.kernel_index import CompiledKernel
from gpu_runner.jobs import Reason
from gpu_runner.languages.device_code import Unit, kernels_in, refuse_forbidden, refuse_plans
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import refused_by
from tests.gpu_runner.languages.test_cubin import attribute, elf

PTX = ".visible .entry softmax(.param .u64 a, .param .f32 b)\n.maxntid 64, 2\n{ ret; }\n"
CUBIN = elf({".nv.info.softmax": attribute(0, 8) + attribute(1, 4)})


def unit(**changes):
    values = {
        "cubin": "kernel.cubin",
        "binary": CUBIN,
        "text": PTX,
        "counters": {"softmax.registers": 40.0, "softmax.shared_bytes": 1024.0},
    }
    return Unit(**{**values, **changes})


def test_a_module_is_described():
    assert kernels_in(unit()) == {
        "softmax": CompiledKernel(
            cubin="kernel.cubin",
            symbol="softmax",
            shared_bytes=1024,
            is_dynamic_shared=False,
            parameters=("u64", "f32"),
            registers=40,
            most_threads=128,
        )
    }


def test_a_kernel_without_parameters_needs_no_section():
    found = kernels_in(unit(binary=elf({}), text=".entry f()\n{ ret; }\n", counters={}))
    assert isinstance(found, dict)
    assert found["f"].parameters == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"binary": b"not a cubin"}, "no 64-bit little-endian ELF"),
        ({"text": PTX.replace("f32", "f64")}, "are (8, 8) bytes in its PTX and (8, 4) in its"),
        ({"text": PTX.replace(", .param .f32 b", "")}, "are (8,) bytes in its PTX and (8, 4)"),
        ({"text": PTX.replace("softmax", "other")}, "the parameters of 'other' are (8, 4)"),
        ({"text": PTX + ".entry softmax()\n{ ret; }\n"}, "are () bytes in its PTX and (8, 4)"),
        ({"text": PTX.replace(".u64 a", ".v4 a")}, "are (0, 4) bytes"),
    ],
)
def test_ptx_and_cubin_that_disagree_are_refused(changes, said):
    refused = refused_by(kernels_in(unit(**changes)))
    assert refused.reason is Reason.COMPILE_FAILED
    assert said in refused.message


def test_forbidden_code_is_refused_by_its_word():
    assert refuse_forbidden(PTX, "this source") is None
    refused = refused_by(refuse_forbidden(PTX.replace("ret;", "trap; ret;"), "the kernel 'k'"))
    assert refused.reason is Reason.FORBIDDEN_INSTRUCTION
    assert refused.message == (
        "the device code of the kernel 'k' traps; use assert, or leave the kernel by return "
        "('trap;')"
    )


def candidate(*arguments):
    launch = Launch(
        kernel="softmax", grid=("B", "1", "1"), block=("64", "1", "1"), arguments=arguments
    )
    return make_candidate(language=Language.CUDA, plans=(LaunchPlan(launches=(launch,)),))


def test_plans_are_held_against_what_was_compiled():
    kernels = kernels_in(unit(text=PTX.replace("f32", "u32")))
    assert isinstance(kernels, dict)
    index = {"0.0": kernels["softmax"]}
    problem = make_problem()
    assert refuse_plans(problem, candidate("x", "N")) is None
    refused = refused_by(refuse_plans(problem, candidate("x", "N"), index))
    assert refused.reason is Reason.LANGUAGE_MISMATCH
    assert refused.message.startswith("plan 0, launch 0 ('softmax'), arguments[1]: the plan passes")
    assert (
        "arguments: the plan passes 1"
        in refused_by(refuse_plans(problem, candidate("x"), index)).message
    )
    assert (
        "kernel: the artefact has no such"
        in refused_by(refuse_plans(problem, candidate("x", "N"), {})).message
    )
    assert "'z' is no tensor" in refused_by(refuse_plans(problem, candidate("z"))).message
