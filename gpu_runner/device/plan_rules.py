"""What a launch plan must be before any shape is known: names, expressions, types. Pure.

The contract between a plan and its kernels:

- Arguments fill the kernel's parameters in order. A bare name is a tensor (a pointer), an axis
  (int64), a scalar (double, or int64 where its kind is `int`) or `workspace` (a pointer to its
  first byte); a problem's own name `workspace` comes first. Narrower numbers, and expressions over
  axes, are passed as a `Value`.
- Tensors start at multiples of 16 bytes, the workspace at a multiple of 256. Bytes past a tensor's
  end may be unmapped. Inputs are read-only memory. Outputs and workspace hold arbitrary bytes when
  a call begins, never zeros that may be relied on.
- The launches of a plan run in order, each seeing the writes of those before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gpu_runner.candidate import (
    Argument,
    Language,
    Launch,
    LaunchPlan,
    Slice,
    TensorMap,
    Value,
)
from gpu_runner.errors import PlanError
from gpu_runner.expression import ExpressionError, evaluate, names_in
from gpu_runner.problem import Axis, Problem, Scalar, Tensor

WORKSPACE = "workspace"
WARP_THREADS = 32
_MOST_WARPS = 32
_PROBES = (1, 2, 3, 16, 97, 1024, 4096, 1 << 20)
"""Sizes an expression is tried with; it must have a value for one of them."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where in the plans something stands."""

    plan: int
    launch: int | None = None
    kernel: str = ""

    def error(self, field: str, text: str) -> PlanError:
        """Return the error to raise about one field of this place."""
        where = f"plan {self.plan}"
        if self.launch is not None:
            where += f", launch {self.launch} ({self.kernel!r})"
        return PlanError(f"{where}, {field}: {text}")


class Words:
    """What names mean in the plans of a problem."""

    def __init__(self, problem: Problem) -> None:
        """Look through the problem once."""
        self.tensors: Mapping[str, Tensor] = {
            t.name: t for t in (*problem.inputs, *problem.outputs)
        }
        self.axes: Mapping[str, Axis] = {axis.name: axis for axis in problem.axes}
        self.scalars: Mapping[str, Scalar] = {scalar.name: scalar for scalar in problem.scalars}

    @cached_property
    def probes(self) -> tuple[Mapping[str, int], ...]:
        """Sizes of all axes to try an expression with; const axes keep their own."""
        return tuple(
            {name: probe if axis.value is None else axis.value for name, axis in self.axes.items()}
            for probe in _PROBES
        )

    def means(self, name: str) -> Tensor | Axis | Scalar | None:
        """Return what a bare name stands for; None for `workspace` and for unknown names."""
        return self.tensors.get(name) or self.axes.get(name) or self.scalars.get(name)

    def is_workspace(self, argument: Argument) -> bool:
        """Whether an argument points into the workspace."""
        is_bare = argument == WORKSPACE and self.means(WORKSPACE) is None
        return isinstance(argument, Slice) or is_bare


def refuse_invalid(problem: Problem, plans: Sequence[LaunchPlan], language: Language) -> None:
    """Raise unless names resolve, expressions can be read and argument types fit.

    Raises:
        PlanError: names plan, launch, kernel and field, and says what to do.
    """
    words = Words(problem)
    for index, plan in enumerate(plans):
        site = Site(plan=index)
        _refuse_expression(site, "guard", plan.guard, words)
        _refuse_expression(site, "workspace_bytes", plan.workspace_bytes, words)
        for number, launch in enumerate(plan.launches):
            _refuse_launch(
                Site(plan=index, launch=number, kernel=launch.kernel), launch, plan, words, language
            )


def warps_of(launch: Launch) -> int | None:
    """Return the warps a triton kernel is compiled for; None unless they are a constant 2^n."""
    try:
        threads = 1
        for extent in launch.block:
            threads *= evaluate(extent, {})
    except ExpressionError:
        return None
    warps, rest = divmod(threads, WARP_THREADS)
    is_power = 0 < warps <= _MOST_WARPS and warps & (warps - 1) == 0
    return warps if rest == 0 and is_power else None


def _refuse_launch(
    site: Site, launch: Launch, plan: LaunchPlan, words: Words, language: Language
) -> None:
    for index, argument in enumerate(launch.arguments):
        field = f"arguments[{index}]"
        if words.is_workspace(argument) and _is_zero(plan.workspace_bytes):
            raise site.error(field, "the plan has no workspace; give it workspace_bytes")
        _refuse_argument(site, field, argument, words)
    for field, text in _expressions(launch, words):
        _refuse_expression(site, field, text, words)
    if language is Language.TRITON:
        _refuse_beyond_triton(site, launch)
    else:
        _refuse_beyond_cuda(site, launch)


def _expressions(launch: Launch, words: Words) -> Iterator[tuple[str, str]]:
    """Yield the fields of a launch that are expressions over axes: all but scalars' names."""
    for field, text in launch.texts().items():
        if not (field.endswith(".value") and text.strip() in words.scalars):
            yield field, text


def _refuse_expression(site: Site, field: str, text: str, words: Words) -> None:
    try:
        unknown = sorted(names_in(text) - set(words.axes))
    except ExpressionError as error:
        raise site.error(field, str(error)) from error
    if unknown:
        known = ", ".join(words.axes) or "none"
        raise site.error(field, f"{text!r} uses {unknown[0]!r}, which is no axis; axes: {known}")
    failure = ExpressionError("")
    for sizes in words.probes:
        try:
            evaluate(text, sizes)
        except ExpressionError as error:
            failure = error
        else:
            return
    raise site.error(field, str(failure)) from failure


def _refuse_argument(site: Site, field: str, argument: Argument, words: Words) -> None:
    match argument:
        case Value():
            _refuse_value(site, field, argument, words)
        case TensorMap(tensor=name):
            if name not in words.tensors:
                raise site.error(
                    f"{field}.tensor",
                    f"{name!r} is no tensor of the problem; tensors: {', '.join(words.tensors)}",
                )
        case str() as name:
            if words.means(name) is None and name != WORKSPACE:
                known = [*words.tensors, *words.axes, *words.scalars, WORKSPACE]
                raise site.error(
                    field,
                    f"{name!r} is no tensor, axis or scalar of the problem; known: "
                    f"{', '.join(known)}",
                )
        case _:
            pass


def _refuse_value(site: Site, field: str, argument: Value, words: Words) -> None:
    scalar = words.scalars.get(argument.value.strip())
    is_float = argument.type in {"f32", "f64"}
    if is_float and scalar is None:
        raise site.error(
            f"{field}.type",
            f"{argument.type} takes a scalar of the problem, and {argument.value!r} is none; pass "
            "an expression over axes as i32 or i64",
        )
    if not is_float and scalar is not None and scalar.kind == "float":
        raise site.error(
            f"{field}.type",
            f"the scalar {scalar.name!r} is a float; pass it as f32 or f64, not {argument.type}",
        )
    if is_float and argument.divisible != 1:
        raise site.error(f"{field}.divisible", "only integers can be multiples of 16")


def _refuse_beyond_cuda(site: Site, launch: Launch) -> None:
    if launch.constants:
        raise site.error(
            "constants", "CUDA kernels take none; use template arguments or #define in the source"
        )
    if launch.stages is not None:
        raise site.error("stages", "only triton kernels have stages; leave it out")
    for index, argument in enumerate(launch.arguments):
        if isinstance(argument, Value) and argument.divisible != 1:
            raise site.error(
                f"arguments[{index}].divisible", "only triton compiles for multiples; leave it out"
            )


def _refuse_beyond_triton(site: Site, launch: Launch) -> None:
    if warps_of(launch) is None:
        raise site.error(
            "block",
            f"{' x '.join(launch.block)} must be constants that multiply to {WARP_THREADS} times a "
            f"power of two, at most 1024 threads: triton fixes the warps when it compiles",
        )
    if launch.cluster is not None:
        raise site.error("cluster", "triton kernels are launched without clusters; leave it out")
    if not _is_zero(launch.shared_bytes):
        raise site.error("shared_bytes", "triton knows the shared memory of its kernels; leave it")
    for index, argument in enumerate(launch.arguments):
        if isinstance(argument, TensorMap):
            raise site.error(
                f"arguments[{index}]",
                "tensor maps go to CUDA kernels; triton makes its own by "
                "tl.make_tensor_descriptor from a pointer",
            )


def _is_zero(text: str) -> bool:
    try:
        return evaluate(text, {}) == 0
    except ExpressionError:
        return False
