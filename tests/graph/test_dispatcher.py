"""The rendered dispatchers: Python and C say what the guards say."""

import ctypes
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.candidate import Launch, LaunchPlan
from gpu_runner.expression import evaluate
from graph.autotune import BASELINE
from graph.dispatcher import (
    C_HELPERS,
    Dispatcher,
    Rule,
    c_expression,
    c_source,
    dispatcher,
    python_expression,
    python_source,
    table,
)
from graph.ledger import Regime, Tuning
from tests.builders import make_candidate, make_problem

SIZES = (1, 2, 3, 7, 31, 127, 724, 725, 1000, 4096, 65537)


def make_tuning(*regimes: tuple[str, str], reason: str = "measured") -> Tuning:
    return Tuning(
        points=(),
        regimes=tuple(
            Regime(
                guard=guard,
                attempt_id=attempt,
                workloads=(f"w{i}",),
                record_ids=(f"r{i}",),
                reason=f"{attempt} is best",
            )
            for i, (guard, attempt) in enumerate(regimes)
        ),
        is_trivial=len(regimes) < 2,
        reason=reason,
        regret=0.004 if regimes else None,
    )


def make_dispatcher(**changes) -> Dispatcher:
    rules = (
        Rule(guard="N <= 724", serves="v001", workloads=("short",), record_ids=("abc",)),
        Rule(guard="B > 64 and N % 16 == 0", serves="v003", kernel_guard="N <= 32768"),
        Rule(guard="1", serves=BASELINE),
    )
    values = {"name": "softmax", "axes": ("B", "N"), "rules": rules, "reason": "two regimes"}
    return Dispatcher(**{**values, **changes})


def loaded(source: str) -> dict[str, Any]:
    module: dict[str, Any] = {}
    exec(compile(source, "dispatcher.py", "exec"), module)
    return module


def expected(chosen: Dispatcher, sizes: dict[str, int]) -> str:
    for rule in chosen.rules:
        if evaluate(rule.guard, sizes):
            return rule.serves if evaluate(rule.kernel_guard, sizes) else BASELINE
    raise AssertionError("the last guard holds")


def compiled(source: str, folder: Path) -> ctypes.CDLL:
    (folder / "probe.c").write_text(source)
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-std=c11", "-shared", "-fPIC", "probe.c"]
    subprocess.run([*command, "-o", "probe.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "probe.so"))


def test_a_tuning_becomes_rules_over_versions():
    chosen = dispatcher(
        make_problem(),
        make_tuning(("N <= 724", "a0002"), ("1", "baseline")),
        {"a0002": "v001"},
        {"a0002": make_candidate()},
    )
    assert chosen.axes == ("B", "N")
    assert [(r.guard, r.serves, r.kernel_guard) for r in chosen.rules] == [
        ("N <= 724", "v001", "1"),
        ("1", BASELINE, "1"),
    ]
    assert chosen.versions == ("v001",)
    assert chosen.rules[0].record_ids == ("r0",)


def test_a_tuning_without_regimes_leaves_all_to_the_baseline():
    chosen = dispatcher(make_problem(), make_tuning(reason="nothing promoted"), {}, {})
    assert [(r.guard, r.serves, r.reason) for r in chosen.rules] == [
        ("1", BASELINE, "nothing promoted")
    ]
    assert loaded(python_source(chosen))["choose"](B=3, N=4) == BASELINE


def test_launch_plans_of_a_kernel_limit_what_it_serves():
    launch = Launch(kernel="k", grid=("B", "1", "1"), block=("128", "1", "1"), arguments=("x", "y"))
    plans = tuple(LaunchPlan(launches=(launch,), guard=g) for g in ("N % 4 == 0", "N <= 32"))
    chosen = dispatcher(
        make_problem(),
        make_tuning(("1", "a0001")),
        {"a0001": "v001"},
        {"a0001": make_candidate(plans=plans)},
    )
    choose = loaded(python_source(chosen))["choose"]
    assert [choose(B=1, N=n) for n in (8, 30, 33, 36)] == ["v001", "v001", BASELINE, "v001"]


def test_a_plan_that_serves_everything_needs_no_guard():
    launch = Launch(kernel="k", grid=("1", "1", "1"), block=("1", "1", "1"), arguments=())
    plans = (LaunchPlan(launches=(launch,), guard="N > 4"), LaunchPlan(launches=(launch,)))
    chosen = dispatcher(
        make_problem(),
        make_tuning(("1", "a0001")),
        {"a0001": "v001"},
        {"a0001": make_candidate(plans=plans)},
    )
    assert chosen.rules[0].kernel_guard == "1"


def test_python_chooses_by_the_first_guard_that_holds():
    chosen = make_dispatcher()
    choose = loaded(python_source(chosen))["choose"]
    for b in SIZES:
        for n in SIZES:
            assert choose(B=b, N=n) == expected(chosen, {"B": b, "N": n}), (b, n)


def test_c_chooses_as_python_does(tmp_path):
    chosen = make_dispatcher()
    probe = compiled(
        f"{c_source(chosen)}\n"
        "const char* probe(int64_t B, int64_t N);\n"
        "const char* probe(int64_t B, int64_t N) {\n"
        "  return softmax_kernel_names[softmax_choose(B, N)];\n}\n",
        tmp_path,
    ).probe
    probe.restype, probe.argtypes = ctypes.c_char_p, (ctypes.c_int64, ctypes.c_int64)
    choose = loaded(python_source(chosen))["choose"]
    for b in SIZES:
        for n in SIZES:
            assert probe(b, n).decode() == choose(B=b, N=n), (b, n)


def test_the_header_compiles_as_cpp_too(tmp_path):
    (tmp_path / "dispatch.h").write_text(c_source(make_dispatcher()))
    (tmp_path / "main.cpp").write_text(
        '#include "dispatch.h"\n#include <cstring>\n'
        "int main() { return std::strcmp(softmax_kernel_names[softmax_choose(1, 8)], "
        '"v001"); }\n'
    )
    command = ["g++", "-Wall", "-Wextra", "-Werror", "-std=c++20", "main.cpp", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_a_dispatcher_of_one_kernel_reads_plainly():
    chosen = make_dispatcher(rules=(Rule(guard="1", serves="v002"),))
    assert python_source(chosen) == (
        '"""Which kernel of softmax serves which sizes.\n\n'
        'Generated from the measurements that table.json cites; edits are lost.\n"""\n\n'
        'BASELINE = "baseline"\n'
        'VERSIONS = ("v002",)\n\n\n'
        "def choose(*, B: int, N: int) -> str:\n"
        '    """Return the version that serves these sizes, or BASELINE."""\n'
        "    del B, N\n"
        '    return "v002"\n'
    )


def test_guards_with_rounded_up_divisions_bring_their_helper():
    rules = (Rule(guard="ceil_div(N, 4) <= 2", serves="v001"), Rule(guard="1", serves=BASELINE))
    choose = loaded(python_source(make_dispatcher(rules=rules)))["choose"]
    assert [choose(B=1, N=n) for n in (8, 9)] == ["v001", BASELINE]


def test_the_table_holds_every_rule_with_its_records():
    assert table(make_dispatcher(regret=0.01)) == {
        "axes": ["B", "N"],
        "regimes": [
            {
                "guard": "N <= 724",
                "serves": "v001",
                "kernel_guard": "1",
                "workloads": ["short"],
                "record_ids": ["abc"],
                "reason": "",
            },
            {
                "guard": "B > 64 and N % 16 == 0",
                "serves": "v003",
                "kernel_guard": "N <= 32768",
                "workloads": [],
                "record_ids": [],
                "reason": "",
            },
            {
                "guard": "1",
                "serves": "baseline",
                "kernel_guard": "1",
                "workloads": [],
                "record_ids": [],
                "reason": "",
            },
        ],
        "reason": "two regimes",
        "regret": 0.01,
    }


@pytest.mark.parametrize("text", ["__import__('os')", "x.y", "1.5", "N[0]", "print(N)"])
def test_what_is_no_expression_is_not_translated(text):
    with pytest.raises(ValueError, match="not part of an expression"):
        c_expression(text)


def a_guard(random_: random.Random, depth: int) -> str:
    if depth == 0:
        return random_.choice(["B", "N", str(random_.randint(1, 300))])
    left, right = a_guard(random_, depth - 1), a_guard(random_, depth - 1)
    divisor = random_.randint(1, 17)
    return random_.choice(
        [
            f"({left} + {right})",
            f"({left} - {right})",
            f"({left} // {divisor})",
            f"(({left} - {right}) // -{divisor})",
            f"({left} % {divisor})",
            f"(-{left} % {divisor})",
            f"({left} < {right})",
            f"({left} <= {right} < 500)",
            f"({left} == 3 or not {right})",
            f"(({left} > 2) and ({right} > 2))",
            f"({left} if {right} > 9 else 7)",
            f"min({left}, {right}, 9)",
            f"max({left}, {right})",
            f"abs({left} - {right})",
            f"ceil_div({left}, {divisor})",
            f"({right} << 2)",
            f"({left} >> 1)",
        ]
    )


def test_c_evaluates_every_expression_as_the_guards_do(tmp_path):
    drawn = random.Random(7)
    texts = [a_guard(drawn, depth) for depth in (1, 2, 3) for _ in range(40)]
    functions = "".join(
        f"int64_t e{i}(int64_t B, int64_t N);\n"
        f"int64_t e{i}(int64_t B, int64_t N) {{ (void)B; (void)N; return {c_expression(t)}; }}\n"
        for i, t in enumerate(texts)
    )
    folder = tmp_path
    (folder / "probe.c").write_text(f"#include <stdint.h>\n{C_HELPERS}\n{functions}")
    command = ["gcc", "-w", "-O1", "-shared", "-fPIC", "probe.c", "-o", "probe.so"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "probe.so"))
    for index, text in enumerate(texts):
        function = library[f"e{index}"]
        function.restype, function.argtypes = ctypes.c_int64, (ctypes.c_int64, ctypes.c_int64)
        for b, n in ((1, 1), (3, 128), (1000, 7), (64, 65537)):
            right = evaluate(text, {"B": b, "N": n})
            is_condition = any(word in text for word in (" or ", " and "))
            given = function(b, n)
            assert (bool(given) == bool(right)) if is_condition else given == right, text


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["B", "N"]), st.sampled_from(["<=", ">"]), st.integers(1, 5000)),
        max_size=4,
    ),
    st.integers(1, 10_000),
    st.integers(1, 10_000),
)
def test_every_size_is_served_by_exactly_one_rule(cuts, b, n):
    rules = [Rule(guard=f"{a} {c} {t}", serves=f"v{i:03d}") for i, (a, c, t) in enumerate(cuts, 1)]
    chosen = make_dispatcher(rules=(*rules, Rule(guard="1", serves=BASELINE)))
    served = loaded(python_source(chosen))["choose"](B=b, N=n)
    assert served == expected(chosen, {"B": b, "N": n})
    assert served in (*chosen.versions, BASELINE)


@st.composite
def expressions(draw, depth: int = 3) -> str:
    """Text of the whole expression language, without a division by zero."""
    if depth == 0:
        return str(draw(st.sampled_from(["B", "N", "0", "1", "3", "17"])))
    inner = expressions(depth=depth - 1)
    left, right = draw(inner), draw(inner)
    forms = (
        f"({left} + {right})",
        f"({left} - {right})",
        f"({left} * 3)",
        f"({left} // 7)",
        f"({left} % 5)",
        f"({left} < {right})",
        f"({left} == {right})",
        f"({left} and {right})",
        f"({left} or {right})",
        f"(not {left})",
        f"(-{left})",
        f"({left} if {right} else {draw(inner)})",
        f"min({left}, {right})",
        f"ceil_div({left}, 4)",
    )
    text: str = draw(st.sampled_from(forms))
    return text


@settings(max_examples=200, deadline=None)
@given(expressions(), st.integers(0, 40), st.integers(0, 40))
def test_python_gives_what_the_expression_language_gives(text, b, n):
    names = {"B": b, "N": n, "ceil_div": lambda x, y: -(-x // y)}
    right = evaluate(text, {"B": b, "N": n})
    assert eval(python_expression(text), dict(names)) == right
    assert bool(eval(python_expression(text, is_condition=True), dict(names))) == bool(right)


@pytest.mark.parametrize(
    ("text", "condition", "value"),
    [
        ("N % 8 == 0 and B > 4", "N % 8 == 0 and B > 4", "bool(N % 8 == 0 and B > 4)"),
        ("not (B and N)", "not (B and N)", "not (B and N)"),
        ("(B or N) + 1", "bool(B or N) + 1", "bool(B or N) + 1"),
        ("1 if B and N else 2", "1 if B and N else 2", "1 if B and N else 2"),
    ],
)
def test_only_values_are_converted(text, condition, value):
    assert python_expression(text, is_condition=True) == condition
    assert python_expression(text) == value
