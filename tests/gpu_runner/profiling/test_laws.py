"""Laws of the readers: machine code made from random graphs, counts that add up, ceilings."""

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.facts import InstructionMix
from gpu_runner.problem import DType, Tensor
from gpu_runner.profiling.assembly import called_in_loops, parse_functions, reachable
from gpu_runner.profiling.control_flow import innermost, natural_loops
from gpu_runner.profiling.counters import parse_counts
from gpu_runner.profiling.disassembly import MOST_HOTSPOTS, hotspots, instruction_mix
from gpu_runner.profiling.remarks import parse_remarks
from gpu_runner.profiling.roofline import LATENCY_BELOW, place_below
from tests.builders import make_problem, make_workload
from tests.gpu_runner.profiling.test_assembly import of_code
from tests.gpu_runner.profiling.test_roofline import make_ceilings

WORK = {
    "vfmadd231ps %zmm1,%zmm2,%zmm3": {"fma": 1, "vector_arithmetic": 1},
    "vmulps (%rsp),%ymm2,%ymm3": {"vector_arithmetic": 1, "spills": 1},
    "vdivps %ymm1,%ymm2,%ymm3": {"vector_arithmetic": 1, "division": 1},
    "vaddss %xmm1,%xmm2,%xmm3": {"scalar_arithmetic": 1},
    "vgatherdps %ymm1,(%rax,%ymm2,4),%ymm3": {"gathers": 1},
    "vmovntps %zmm0,(%rdi)": {"non_temporal_stores": 1},
    "mov %rax,0x8(%rsp)": {"spills": 1},
    "add %rax,%rbx": {},
}
BODIES = st.lists(st.sampled_from(sorted(WORK)), max_size=12)
COUNTED = sorted({name for counts in WORK.values() for name in counts})


def loop_of(body):
    return of_code(*body, "jne 1000 <kp_run>", "ret")


def counts_of(mix: InstructionMix) -> dict[str, int]:
    return {name: getattr(mix, name) for name in COUNTED}


@settings(max_examples=40, deadline=None)
@given(BODIES)
def test_counts_are_the_sum_over_the_instructions(body):
    expected = dict.fromkeys(COUNTED, 0)
    for line in body:
        for name, count in WORK[line].items():
            expected[name] += count
    mix = instruction_mix(loop_of(body))
    assert counts_of(mix) == expected
    assert mix.total == len(body) + 1


@settings(max_examples=40, deadline=None)
@given(BODIES, st.randoms(use_true_random=False))
def test_the_order_of_a_loops_instructions_changes_no_count(body, source):
    shuffled = source.sample(body, len(body))
    assert instruction_mix(loop_of(shuffled)) == instruction_mix(loop_of(body))


@settings(max_examples=40, deadline=None)
@given(BODIES)
def test_what_stands_outside_the_loop_does_not_count(body):
    start = 0x1000 + 16 * len(body)
    text = of_code(*body, "vmulps %ymm0,%ymm1,%ymm2", f"jne {start:x} <kp_run+0x1>", *body, "ret")
    mix = instruction_mix(text)
    assert mix.total == 2
    assert counts_of(mix) == {**dict.fromkeys(COUNTED, 0), "vector_arithmetic": 1}


def code_of(graph):
    """Blocks of one add and a jump to each of their successors; the last goes on by falling."""
    lines: list[str] = []
    starts, fixes = {}, []
    for block in sorted(graph):
        starts[block] = 0x1000 + 16 * len(lines)
        lines.append("add %rax,%rbx")
        for target in graph[block][:-1]:
            fixes.append((len(lines), "jne", target))
            lines.append("")
        fixes += [(len(lines), "jmp", target) for target in graph[block][-1:]]
        lines.append("" if graph[block] else "ret")
    for place, mnemonic, target in fixes:
        at = starts[target]
        lines[place] = f"{mnemonic} {at:x} <kp_run+{at - 0x1000:#x}>"
    return of_code(*lines), starts


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10**6))
def test_loops_of_the_code_are_the_loops_of_its_graph(count, seed):
    source = random.Random(seed)
    graph = {n: source.sample(range(count), source.randint(0, 2)) for n in range(count)}
    seen, waiting = set(), [0]
    while waiting:
        block = waiting.pop()
        if block not in seen:
            seen.add(block)
            waiting += graph[block]
    graph = {n: graph[n] for n in seen}
    text, starts = code_of(graph)
    expected = natural_loops(0, graph)
    loops = parse_functions(text)["kp_run"].loops()
    assert [loop.start for loop in loops] == sorted(starts[header] for header in expected)
    inner = innermost(expected)
    by_start = {starts[header]: (header, body) for header, body in expected.items()}
    for loop in loops:
        header, body = by_start[loop.start]
        assert loop.is_innermost == (header in inner)
        adds = {one.address for one in loop.body if one.mnemonic == "add"}
        assert adds == {starts[block] for block in body}


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_names_of_blocks_do_not_matter(count, seed, shuffler):
    source = random.Random(seed)
    graph = {n: source.sample(range(count), source.randint(0, 2)) for n in range(count)}
    names = list(range(100, 100 + count))
    shuffler.shuffle(names)
    renamed = {names[n]: [names[t] for t in graph[n]] for n in graph}
    expected = {
        names[header]: frozenset(names[b] for b in body)
        for header, body in natural_loops(0, graph).items()
    }
    assert natural_loops(names[0], renamed) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=2 * MOST_HOTSPOTS))
def test_hotspots_share_out_the_instructions_of_all_loops(lengths):
    lines: list[str] = []
    for length in lengths:
        start = 0x1000 + 16 * len(lines)
        lines += ["add %rax,%rbx"] * (length - 1)
        lines.append(f"jne {start:x} <kp_run+{start - 0x1000:#x}>")
    spots = hotspots(of_code(*lines, "ret"))
    shown = sorted(lengths, reverse=True)[:MOST_HOTSPOTS]
    assert [int(spot.detail.split()[0]) for spot in spots] == shown
    assert sum(s.share for s in spots) == pytest.approx(sum(shown) / sum(lengths))
    assert len({spot.symbol for spot in spots}) == len(spots)


@settings(max_examples=40, deadline=None)
@given(st.permutations(["kp_run", "helper", "expf@plt", "alone"]))
def test_the_order_of_functions_in_a_listing_changes_nothing(order):
    parts = {
        "kp_run": of_code("call 2000 <helper>", "jne 1000 <kp_run>", "ret"),
        "helper": "0000000000002000 <helper>:\n    2000:\tcall   3000 <expf@plt>\n    2010:\tret\n",
        "expf@plt": "0000000000003000 <expf@plt>:\n    3000:\tjmp    *0x2fe2(%rip)\n",
        "alone": "0000000000004000 <alone>:\n    4000:\tcall   2000 <helper>\n",
    }
    functions = reachable(parse_functions("\n".join(parts[name] for name in order)), "kp_run")
    assert set(functions) == {"kp_run", "helper"}
    assert called_in_loops(functions) == {"helper": 1, "expf": 1}


POSITIVE = st.floats(1e6, 1e14)


@settings(max_examples=40, deadline=None)
@given(POSITIVE, POSITIVE, st.floats(0.01, 1e6), st.floats(1.01, 100))
def test_a_slower_call_is_further_from_the_roof_and_its_floor_stays(band, peak, time_us, factor):
    limits = make_ceilings(bandwidth_bytes_per_s=band, float32_flops_per_s=peak)
    fast = place_below(make_problem(), make_workload(), time_us, limits)
    slow = place_below(make_problem(), make_workload(), time_us * factor, limits)
    assert slow.floor_us == fast.floor_us
    assert slow.fraction_reached == pytest.approx(fast.fraction_reached / factor)
    assert (fast.bound == "latency") == (fast.fraction_reached < LATENCY_BELOW)
    assert fast.bound != "latency" or slow.bound == "latency"


@settings(max_examples=40, deadline=None)
@given(POSITIVE, POSITIVE, st.integers(1, 64))
def test_a_larger_workload_has_a_floor_larger_by_as_much(band, peak, factor):
    limits = make_ceilings(bandwidth_bytes_per_s=band, float32_flops_per_s=peak)
    one, many = (
        place_below(make_problem(), make_workload(axes={"B": 8 * f, "N": 128}), 1.0, limits)
        for f in (1, factor)
    )
    assert many.floor_us == pytest.approx(one.floor_us * factor)
    assert (many.required_bytes, many.required_flops) == (
        one.required_bytes * factor,
        one.required_flops * factor,
    )


@pytest.mark.parametrize("dtype", DType)
def test_narrower_elements_move_fewer_bytes_and_no_peak_is_lost(dtype):
    tensors = [Tensor(name=name, shape=("B", "N"), dtype=dtype) for name in "xy"]
    problem = make_problem(inputs=tuple(tensors[:1]), outputs=tuple(tensors[1:]))
    found = place_below(problem, make_workload(), 1.0, make_ceilings())
    assert found.required_bytes == 2 * 8 * 128 * dtype.item_bytes
    assert found.peak_flops_per_s == make_ceilings().peak(problem) > 0


@settings(max_examples=40, deadline=None)
@given(st.lists(POSITIVE, min_size=2, max_size=5))
def test_merging_ceilings_is_the_same_in_any_order(figures):
    made = [make_ceilings(bandwidth_bytes_per_s=f, float64_flops_per_s=1e20 / f) for f in figures]

    def merged(order):
        best, *others = order
        for other in others:
            best = best.merged(other)
        return best

    assert merged(made) == merged(made[::-1])
    assert merged(made).bandwidth_bytes_per_s == max(figures)
    assert merged(made).float64_flops_per_s == 1e20 / min(figures)
    assert merged(made).samples == len(figures)


REMARKS = {
    "vectorised": "optimized: loop vectorized using 32 byte vectors",
    "missed": "missed: couldn't vectorize loop",
    "note": "optimized: basic block part vectorized",
}


@pytest.mark.parametrize("order", list(itertools.permutations(REMARKS)))
def test_the_best_that_was_said_of_a_line_stands(order):
    (remark,) = parse_remarks("\n".join(f"k.cpp:3:{i}: {REMARKS[k]}" for i, k in enumerate(order)))
    assert remark.kind == "vectorised"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["/usr/a.h", "b.cpp", "a/c.h"]), st.integers(1, 9))))
def test_remarks_come_own_sources_first_then_by_path_and_line(places):
    found = parse_remarks(
        "\n".join(f"{path}:{line}:1: {REMARKS['vectorised']}" for path, line in places)
    )
    order = [(r.path.startswith("/"), r.path, r.line) for r in found]
    assert order == sorted({(path.startswith("/"), path, line) for path, line in places})


COUNTS = st.dictionaries(
    st.sampled_from(["cycles:u", "instructions:u", "page-faults", "cpu-migrations"]),
    st.none() | st.integers(0, 2**53),
    min_size=1,
)


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_each_counter_is_either_counted_or_named_as_missing(counts):
    lines = [f"{'<not counted>' if n is None else n},,{e},1,100.00,," for e, n in counts.items()]
    found = parse_counts("# started\n\n" + "\n".join(lines))
    plain = {e.removesuffix(":u").replace("-", "_"): n for e, n in counts.items()}
    assert found.events == {name: float(n) for name, n in plain.items() if n is not None}
    missing = [name for name, n in plain.items() if n is None]
    said = re.findall(r"\w+", found.unavailable[0].split(":")[0])[1:] if missing else []
    assert said == missing
    assert bool(found.unavailable) == bool(missing)
