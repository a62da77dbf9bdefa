"""The dispatcher as source: a Python function, the same as C, and the table both come from. Pure.

Guards are expressions over axes (`gpu_runner.expression`); Python reads them as they are, C gets
them translated. The first guard that holds decides; where the chosen kernel's own guard excludes
the sizes, the baseline serves.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from gpu_runner.candidate import Candidate
from gpu_runner.expression import names_in
from gpu_runner.problem import Problem
from graph.autotune import BASELINE
from graph.ledger import Tuning
from graph.regimes import ALWAYS

_C_BINARY: Final[dict[type[ast.operator], str]] = {
    ast.Add: "({} + {})",
    ast.Sub: "({} - {})",
    ast.Mult: "({} * {})",
    ast.FloorDiv: "kp_floor_div({}, {})",
    ast.Mod: "kp_floor_mod({}, {})",
    ast.LShift: "({} << {})",
    ast.RShift: "({} >> {})",
}
_C_COMPARE: Final[dict[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_C_CALLS: Final = frozenset({"min", "max", "abs", "ceil_div"})

C_HELPERS: Final = """\
/* Division and remainder round down, as the guards are defined; sizes are never negative, but
   differences of sizes may be. */
static inline int64_t kp_floor_div(int64_t a, int64_t b) {
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
}
static inline int64_t kp_floor_mod(int64_t a, int64_t b) { return a - kp_floor_div(a, b) * b; }
static inline int64_t kp_ceil_div(int64_t a, int64_t b) { return -kp_floor_div(-a, b); }
static inline int64_t kp_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t kp_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t kp_abs(int64_t a) { return a < 0 ? -a : a; }
"""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One regime as the repository states it."""

    guard: str
    serves: str
    """Version, or `baseline`."""
    kernel_guard: str = ALWAYS
    """Sizes the kernel itself can serve."""
    workloads: tuple[str, ...] = ()
    record_ids: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Dispatcher:
    """Which version serves which sizes."""

    name: str
    axes: tuple[str, ...]
    """Every axis of the problem, in declaration order: the arguments of `choose`."""
    rules: tuple[Rule, ...]
    """In order; the last guard always holds."""
    reason: str
    regret: float | None = None

    @property
    def versions(self) -> tuple[str, ...]:
        """Versions that serve some sizes, in order of their rules."""
        named = (rule.serves for rule in self.rules if rule.serves != BASELINE)
        return tuple(dict.fromkeys(named))

    @property
    def unused(self) -> tuple[str, ...]:
        """Axes that no guard looks at."""
        texts = [text for rule in self.rules for text in (rule.guard, rule.kernel_guard)]
        used = set().union(*(names_in(text) for text in texts))
        return tuple(axis for axis in self.axes if axis not in used)


def dispatcher(
    problem: Problem,
    tuning: Tuning,
    versions: Mapping[str, str],
    candidates: Mapping[str, Candidate],
) -> Dispatcher:
    """Return the dispatcher that a tuning decided.

    Args:
        problem: gives the axes.
        tuning: gives the regimes.
        versions: attempt id to version, for every attempt that a regime names.
        candidates: attempt id to candidate, for the same; its launch plans hold its guards.
    """
    rules = tuple(
        Rule(
            guard=regime.guard,
            serves=versions.get(regime.attempt_id, BASELINE),
            kernel_guard=_own_guard(candidates.get(regime.attempt_id)),
            workloads=regime.workloads,
            record_ids=regime.record_ids,
            reason=regime.reason,
        )
        for regime in tuning.regimes
    )
    return Dispatcher(
        name=problem.name,
        axes=tuple(axis.name for axis in problem.axes),
        rules=rules or (Rule(guard=ALWAYS, serves=BASELINE, reason=tuning.reason),),
        reason=tuning.reason,
        regret=tuning.regret,
    )


def table(chosen: Dispatcher) -> dict[str, JsonValue]:
    """Return what `table.json` holds."""
    regimes: list[JsonValue] = [
        {
            "guard": rule.guard,
            "serves": rule.serves,
            "kernel_guard": rule.kernel_guard,
            "workloads": list(rule.workloads),
            "record_ids": list(rule.record_ids),
            "reason": rule.reason,
        }
        for rule in chosen.rules
    ]
    return {
        "axes": list(chosen.axes),
        "regimes": regimes,
        "reason": chosen.reason,
        "regret": chosen.regret,
    }


def python_source(chosen: Dispatcher) -> str:
    """Return the module that chooses in Python: `choose(**sizes)` and its constants."""
    texts = [text for rule in chosen.rules for text in (rule.guard, rule.kernel_guard)]
    helper = _PYTHON_CEIL_DIV if any("ceil_div" in text for text in texts) else ""
    versions = "".join(f'"{version}", ' for version in chosen.versions).rstrip(" ")
    if len(chosen.versions) > 1:
        versions = versions.rstrip(",")
    arguments = "".join(f", {axis}: int" for axis in chosen.axes)
    body = "".join(_python_rule(rule) for rule in chosen.rules)
    unused = f"    del {', '.join(chosen.unused)}\n" if chosen.unused else ""
    return (
        f'"""Which kernel of {chosen.name} serves which sizes.\n\n'
        'Generated from the measurements that table.json cites; edits are lost.\n"""\n\n'
        f'BASELINE = "{BASELINE}"\n'
        f"VERSIONS = ({versions})\n{helper}\n\n"
        f"def choose(*{arguments}) -> str:\n"
        '    """Return the version that serves these sizes, or BASELINE."""\n'
        f"{unused}{body}"
    )


def c_source(chosen: Dispatcher) -> str:
    """Return the header that chooses in C and C++, for callers without Python."""
    upper = chosen.name.upper()
    names = (BASELINE, *chosen.versions)
    members = ",\n".join(f"  {upper}_{name.upper()} = {i}" for i, name in enumerate(names))
    listed = ", ".join(f'"{name}"' for name in names)
    arguments = ", ".join(f"int64_t {axis}" for axis in chosen.axes)
    unused = "".join(f"  (void){axis};\n" for axis in chosen.unused)
    body = "".join(_c_rule(rule, upper) for rule in chosen.rules)
    return (
        f"/* Which kernel of {chosen.name} serves which sizes; generated like dispatcher.py. */\n"
        f"#ifndef {upper}_DISPATCH_H\n#define {upper}_DISPATCH_H\n\n#include <stdint.h>\n\n"
        f"enum {chosen.name}_kernel {{\n{members}\n}};\n\n"
        f"static const char* const {chosen.name}_kernel_names[] = {{{listed}}};\n\n"
        f"{C_HELPERS}\n"
        f"static inline enum {chosen.name}_kernel {chosen.name}_choose({arguments}) {{\n"
        f"{unused}{body}}}\n\n#endif\n"
    )


def python_expression(text: str, *, is_condition: bool = False) -> str:
    """Return an expression over axes as Python of the same value.

    Args:
        text: as `gpu_runner.expression` evaluates it: there `and` and `or` give 0 or 1, in Python
            one of their operands.
        is_condition: only its truth is used, so that nothing has to be converted.
    """
    body = ast.parse(text.strip(), mode="eval").body
    made = _Exact().condition(body) if is_condition else _Exact().visit(body)
    return ast.unparse(ast.fix_missing_locations(made))


def c_expression(text: str) -> str:
    """Return an expression over axes as C; comparisons give 0 or 1 in both.

    Raises:
        ValueError: the text is not an expression that `gpu_runner.expression` evaluates.
    """
    return _c_node(ast.parse(text.strip(), mode="eval").body)


_PYTHON_CEIL_DIV: Final = '''

def ceil_div(a: int, b: int) -> int:
    """Divide and round up."""
    return -(-a // b)
'''


def _own_guard(candidate: Candidate | None) -> str:
    guards = [plan.guard for plan in candidate.plans] if candidate else []
    if not guards or ALWAYS in guards:
        return ALWAYS
    return " or ".join(f"({guard})" for guard in guards)


def _python_rule(rule: Rule) -> str:
    served = "BASELINE" if rule.serves == BASELINE else f'"{rule.serves}"'
    if rule.kernel_guard != ALWAYS:
        served += f" if {python_expression(rule.kernel_guard, is_condition=True)} else BASELINE"
    if rule.guard == ALWAYS:
        return f"    return {served}\n"
    condition = python_expression(rule.guard, is_condition=True)
    return f"    if {condition}:\n        return {served}\n"


class _Exact(ast.NodeTransformer):
    """Converts `and` and `or` to truth values where their value is used."""

    def condition(self, node: ast.expr) -> ast.expr:
        """Return an expression of which only the truth is used."""
        made: ast.expr = self.visit(node)
        return made.args[0] if isinstance(node, ast.BoolOp) and isinstance(made, ast.Call) else made

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        node.values = [self.condition(value) for value in node.values]
        return ast.Call(func=ast.Name(id="bool", ctx=ast.Load()), args=[node], keywords=[])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        is_not = isinstance(node.op, ast.Not)
        node.operand = self.condition(node.operand) if is_not else self.visit(node.operand)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        node.test = self.condition(node.test)
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node


def _c_rule(rule: Rule, upper: str) -> str:
    served = f"{upper}_{rule.serves.upper()}"
    if rule.kernel_guard != ALWAYS:
        served = f"{c_expression(rule.kernel_guard)} ? {served} : {upper}_{BASELINE.upper()}"
    if rule.guard == ALWAYS:
        return f"  return {served};\n"
    return f"  if ({c_expression(rule.guard)}) return {served};\n"


def _c_node(node: ast.expr) -> str:  # noqa: PLR0911 - one return a node kind
    match node:
        case ast.Constant(value=bool() | int() as number):
            return f"INT64_C({int(number)})"
        case ast.Name(id=name):
            return name
        case ast.UnaryOp(op=ast.USub()):
            return f"(-{_c_node(node.operand)})"
        case ast.UnaryOp(op=ast.Not()):
            return f"(!{_c_node(node.operand)})"
        case ast.BinOp(op=op) if type(op) in _C_BINARY:
            return _C_BINARY[type(op)].format(_c_node(node.left), _c_node(node.right))
        case ast.BoolOp(op=op):
            joint = " && " if isinstance(op, ast.And) else " || "
            return f"({joint.join(_c_node(value) for value in node.values)})"
        case ast.Compare() if all(type(op) in _C_COMPARE for op in node.ops):
            values = [_c_node(value) for value in (node.left, *node.comparators)]
            pairs = zip(node.ops, values, values[1:], strict=False)
            return f"({' && '.join(f'({a} {_C_COMPARE[type(op)]} {b})' for op, a, b in pairs)})"
        case ast.IfExp():
            test, body, other = (_c_node(part) for part in (node.test, node.body, node.orelse))
            return f"({test} ? {body} : {other})"
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _C_CALLS:
            return _c_call(name, [_c_node(argument) for argument in arguments])
        case _:
            msg = f"{ast.unparse(node)!r} is not part of an expression over axes"
            raise ValueError(msg)


def _c_call(name: str, arguments: list[str]) -> str:
    nested = arguments[0]
    if name == "abs":
        return f"kp_abs({nested})"
    for argument in arguments[1:]:
        nested = f"kp_{name}({nested}, {argument})"
    return nested
