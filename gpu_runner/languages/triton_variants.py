"""What triton has to compile for a candidate's plans: each kernel once a distinct way. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_runner.candidate import Argument, Candidate, Constant, Launch, Value
from gpu_runner.device.kernel_index import index_key
from gpu_runner.device.plan_rules import WARP_THREADS, Words, warps_of
from gpu_runner.problem import Axis, DType, Problem, Scalar, Tensor

POINTERS = {
    DType.FLOAT64: "*fp64",
    DType.FLOAT32: "*fp32",
    DType.FLOAT16: "*fp16",
    DType.BFLOAT16: "*bf16",
    DType.INT64: "*i64",
    DType.INT32: "*i32",
    DType.INT8: "*i8",
    DType.UINT8: "*u8",
    DType.BOOL: "*u8",
}
_NUMBERS = {"i32": "i32", "i64": "i64", "f32": "fp32", "f64": "fp64"}
_WORKSPACE = "*u8"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One compilation of one kernel."""

    kernel: str
    types: tuple[str, ...]
    """Of the parameters that are no `tl.constexpr`, in order."""
    divisible: tuple[int, ...]
    """Those of them that are multiples of 16: all pointers, and numbers that the plan says are."""
    constants: tuple[tuple[str, Constant], ...]
    warps: int
    stages: int | None

    def request(self, where: str) -> dict[str, object]:
        """Return what the compiling program is told.

        Args:
            where: the launch to name in errors.
        """
        return {
            "kernel": self.kernel,
            "types": list(self.types),
            "divisible": list(self.divisible),
            "constants": dict(self.constants),
            "warps": self.warps,
            "stages": self.stages,
            "where": where,
        }

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.warps * WARP_THREADS


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """All compilations of a candidate."""

    variants: Mapping[str, Variant]
    """By the name of their files: `softmax`, then `softmax.1` for a second way."""
    requests: Mapping[str, Mapping[str, object]]
    launches: Mapping[str, str]
    """Name of the variant by `index_key`."""


def wanted(problem: Problem, candidate: Candidate) -> Wanted:
    """Return what to compile; the plans have passed `refuse_invalid`."""
    words = Words(problem)
    names: dict[tuple[object, ...], str] = {}
    variants: dict[str, Variant] = {}
    requests: dict[str, Mapping[str, object]] = {}
    launches: dict[str, str] = {}
    for number, plan in enumerate(candidate.plans):
        for at, launch in enumerate(plan.launches):
            variant = _variant(launch, words)
            key = _identity(variant)
            if key not in names:
                count = sum(known.kernel == launch.kernel for known in variants.values())
                names[key] = f"{launch.kernel}.{count}" if count else launch.kernel
                variants[names[key]] = variant
                where = f"plan {number}, launch {at} ({launch.kernel!r})"
                requests[names[key]] = variant.request(where)
            launches[index_key(number, at)] = names[key]
    return Wanted(variants=variants, requests=requests, launches=launches)


def _identity(variant: Variant) -> tuple[object, ...]:
    """Return what tells variants apart: 1, 1.0 and True are equal, yet compile differently."""
    kinds = tuple(type(value) for _, value in variant.constants)
    return (variant, kinds)


def _variant(launch: Launch, words: Words) -> Variant:
    return Variant(
        kernel=launch.kernel,
        types=tuple(_type(argument, words) for argument in launch.arguments),
        divisible=tuple(
            index
            for index, argument in enumerate(launch.arguments)
            if _is_divisible(argument, words)
        ),
        constants=tuple(sorted(launch.constants.items())),
        warps=warps_of(launch) or 1,
        stages=launch.stages,
    )


def _type(argument: Argument, words: Words) -> str:
    match argument:
        case Value(type=kind):
            return _NUMBERS[kind]
        case str() as name:
            match words.means(name):
                case Tensor(dtype=dtype):
                    return POINTERS[dtype]
                case Axis() | Scalar(kind="int"):
                    return "i64"
                case Scalar():
                    return "fp64"
                case _:
                    return _WORKSPACE
        case _:
            return _WORKSPACE


def _is_divisible(argument: Argument, words: Words) -> bool:
    if isinstance(argument, Value):
        return argument.divisible != 1
    return _type(argument, words).startswith("*")
