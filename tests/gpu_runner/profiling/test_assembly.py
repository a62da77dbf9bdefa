from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.profiling.assembly import called_in_loops, parse_functions, reachable

CAPTURES = Path(__file__).parents[2] / "data" / "profiling"


def listing(name="naive"):
    return (CAPTURES / f"{name}.objdump.txt").read_text()


def of_code(*lines, name="kp_run"):
    """A function whose instructions are 16 bytes apart, from address 0x1000."""
    body = "\n".join(f"    {0x1000 + 16 * n:x}:\t{line}" for n, line in enumerate(lines))
    return f"{0x1000:016x} <{name}>:\n{body}\n"


def test_functions_of_a_shared_object_are_found():
    functions = parse_functions(listing("vectorised"))
    assert {"kp_run", "kp_run._omp_fn.0", "_init", "GOMP_parallel@plt"} <= set(functions)


def test_jump_and_call_know_where_they_go():
    body = parse_functions(listing())["kp_run"].body
    call = next(one for one in body if one.is_call)
    assert (call.mnemonic, call.symbol) == ("call", "expf")
    jump = next(one for one in body if one.is_jump)
    assert jump.symbol == "kp_run"
    assert jump.target is not None


def test_prefixes_are_no_mnemonics():
    text = of_code("lock cmpxchg %rcx,(%rdx)", "rep stos %al,%es:(%rdi)", "notrack jmp *%rax")
    mnemonics = [one.mnemonic for one in parse_functions(text)["kp_run"].body]
    assert mnemonics == ["cmpxchg", "stos", "jmp"]


def test_outlined_parallel_region_is_reached_through_its_address():
    functions = reachable(parse_functions(listing("vectorised")), "kp_run")
    assert set(functions) == {"kp_run", "kp_run._omp_fn.0"}


def test_entry_that_is_absent_reaches_nothing():
    assert reachable(parse_functions(listing()), "absent") == {}


def test_jump_through_a_table_does_not_hide_the_loops_behind_it():
    text = of_code(
        "notrack jmp *%rax",
        "vmovups (%rdi),%zmm0",
        "jne 1010 <kp_run+0x10>",
        "ret",
    )
    (loop,) = parse_functions(text)["kp_run"].loops()
    assert loop.start == 0x1010
    assert [one.mnemonic for one in loop.body] == ["vmovups", "jne"]


def test_padding_is_no_way_into_a_loop():
    text = of_code(
        "jmp 1030 <kp_run+0x30>",
        "nopl 0x0(%rax)",
        "inc %rax",
        "cmp %rax,%rdx",
        "jne 1020 <kp_run+0x20>",
        "ret",
    )
    (loop,) = parse_functions(text)["kp_run"].loops()
    assert [one.mnemonic for one in loop.body] == ["inc", "cmp", "jne"]


def test_calls_count_through_functions_of_the_object():
    text = (
        of_code("call 2000 <helper>", "jne 1000 <kp_run>", "call 3000 <free@plt>", "ret")
        + "0000000000002000 <helper>:\n    2000:\tcall   3010 <expf@plt>\n    2010:\tret\n"
    )
    calls = called_in_loops(reachable(parse_functions(text), "kp_run"))
    assert calls == {"helper": 1, "expf": 1}


def test_call_through_a_pointer_is_named_so():
    text = of_code("call *%rax", "jne 1000 <kp_run>", "ret")
    assert called_in_loops(parse_functions(text)) == {"(indirect)": 1}


def test_recursion_ends():
    text = of_code("call 1000 <kp_run>", "jne 1000 <kp_run>", "ret")
    functions = reachable(parse_functions(text), "kp_run")
    assert called_in_loops(functions) == {"kp_run": 1}


@given(st.text())
def test_any_text_is_read_without_failing(text):
    for function in parse_functions(text).values():
        function.loops()
