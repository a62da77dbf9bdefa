"""Filters: run by a small interpreter of the instructions they are made of."""

import errno
import os
import re
import signal
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.host import seccomp
from gpu_runner.host.syscalls import ARCHITECTURES

MACHINES = sorted(ARCHITECTURES)
ALLOWED = 0
KILLED = -1
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
OWN = 4242
THREAD = 0x003D0F00
FORK = signal.SIGCHLD


def decide(program, number, *arguments, audit):
    """Return 0, or the errno a call gets, or -1 where the process is killed."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number, audit, 0, *(a & (2**64 - 1) for a in padded))
    steps = list(struct.iter_unpack("=HBBI", program))
    at, register = 0, 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        match code:
            case 0x20:
                (register,) = struct.unpack_from("=I", data, value)
            case 0x15:
                at += yes if register == value else no
            case 0x35:
                at += yes if register >= value else no
            case 0x45:
                at += yes if register & value else no
            case 0x06:
                kind, detail = value & 0xFFFF0000, value & 0xFFFF
                return {0x7FFF0000: ALLOWED, 0x80000000: KILLED, 0x50000: detail}[kind]
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


class Filter:
    def __init__(self, profile, machine="x86_64", **changes):
        self.architecture = ARCHITECTURES[machine]
        self.program = seccomp.assemble(profile, machine=machine, **changes)

    def __call__(self, name, *arguments):
        number = self.architecture.numbers[name]
        return decide(self.program, number, *arguments, audit=self.architecture.audit)


@pytest.fixture(params=MACHINES)
def strict(request):
    return Filter("strict", request.param, own_pid=OWN, may_pin=False)


@pytest.fixture(params=MACHINES)
def base(request):
    return Filter("base", request.param)


@pytest.fixture(params=MACHINES)
def single(request):
    return Filter("single", request.param)


NEVER = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "perf_event_open", "bpf", "mount"),
    *("userfaultfd", "io_uring_setup", "unshare", "setns", "pidfd_getfd", "kexec_load"),
    *("init_module", "open_by_handle_at", "keyctl", "umount2", "pivot_root", "chroot"),
)
STRICT_ONLY = (
    *("execve", "execveat", "pidfd_open", "pidfd_send_signal", "tkill", "rt_sigqueueinfo"),
    *(
        "io_setup",
        "io_submit",
        "timer_create",
        "mq_notify",
        "socket",
        "socketpair",
        "connect",
        "bind",
        "sendmsg",
    ),
    *("shmget", "setpriority", "sched_setscheduler", "sched_setaffinity"),
)


@pytest.mark.parametrize("name", NEVER)
def test_no_profile_lets_a_process_look_outside(name, base, single, strict):
    assert base(name) == single(name) == strict(name) == errno.EPERM


@pytest.mark.parametrize("name", STRICT_ONLY)
def test_strict_profile_denies_more(name, strict):
    assert strict(name, 1) == errno.EPERM


@pytest.mark.parametrize("name", ["execve", "pidfd_open", "timer_create", "sched_setaffinity"])
def test_builders_may_do_what_compilers_do(name, base):
    assert base(name) == ALLOWED


def test_clone3_is_unknown_so_that_libraries_fall_back(base, single, strict):
    assert base("clone3") == single("clone3") == strict("clone3") == errno.ENOSYS


def test_threads_are_allowed_and_processes_are_not(base, single, strict):
    assert [f("clone", THREAD) for f in (base, single, strict)] == [ALLOWED] * 3
    assert [f("clone", FORK) for f in (base, single, strict)] == [ALLOWED, errno.EPERM, errno.EPERM]


@pytest.mark.parametrize("bit", [0x20000, 0x02000000, 0x10000000, 0x20000000, 0x40000000])
def test_new_namespaces_are_denied_to_everyone(bit, base):
    assert base("clone", FORK | bit) == errno.EPERM


@pytest.mark.parametrize("name", ["fork", "vfork"])
def test_old_ways_to_fork_are_denied_where_they_exist(name):
    assert Filter("base")(name) == ALLOWED
    assert Filter("single")(name) == Filter("strict")(name) == errno.EPERM


def test_signals_reach_only_oneself_and_never_wake(strict):
    assert strict("kill", OWN, signal.SIGABRT) == ALLOWED
    assert strict("tgkill", OWN, 99, signal.SIGABRT) == ALLOWED
    assert strict("kill", OWN, signal.SIGCONT) == errno.EPERM
    assert strict("tgkill", OWN, 99, signal.SIGCONT) == errno.EPERM
    for other in (1, OWN + 1, 0, -1, -OWN):
        assert strict("kill", other, signal.SIGKILL) == errno.EPERM
        assert strict("tgkill", other, 99, signal.SIGKILL) == errno.EPERM


def test_without_a_pid_no_signal_is_allowed():
    assert Filter("strict")("kill", 1, signal.SIGTERM) == errno.EPERM


@pytest.mark.parametrize("command", [8, 10, 15, 1024, 1026])
def test_descriptors_cannot_be_armed_with_signals(command, strict):
    assert strict("fcntl", 5, command, signal.SIGCONT) == errno.EPERM


@pytest.mark.parametrize("command", [1, 2, 3, 4, 1030, 1033])
def test_ordinary_fcntl_is_allowed(command, strict, base):
    assert strict("fcntl", 5, command) == base("fcntl", 5, 10) == ALLOWED


def test_prctl_keeps_names_and_loses_the_rest(strict):
    assert strict("prctl", 15) == ALLOWED
    assert [strict("prctl", option) for option in (1, 4, 35, 36)] == [errno.EPERM] * 4


def test_network_is_denied_and_local_sockets_are_not(base, single):
    for family, expected in ((1, ALLOWED), (2, errno.EPERM), (10, errno.EPERM), (16, errno.EPERM)):
        assert base("socket", family, 1, 0) == single("socket", family, 1, 0) == expected


def test_pinning_is_allowed_to_several_threads():
    assert Filter("strict", may_pin=True)("sched_setaffinity") == ALLOWED
    assert Filter("strict", may_pin=False)("sched_setaffinity") == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 460), argument=st.integers(0, 2**63))
def test_calls_not_named_are_allowed(machine, number, argument):
    made = Filter("strict", machine, own_pid=OWN)
    if number not in made.architecture.numbers.values():
        audit = made.architecture.audit
        assert decide(made.program, number, argument, audit=audit) == ALLOWED


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("profile", ["base", "single", "strict"])
@given(number=st.integers(0, 2**32 - 1))
def test_every_call_gets_a_decision(profile, machine, number):
    made = Filter(profile, machine, own_pid=OWN)
    assert decide(made.program, number, audit=made.architecture.audit) >= ALLOWED


def test_second_numbering_of_calls_is_refused():
    made = Filter("strict")
    for number in (0x40000000, 0x40000000 + 59, 0xFFFFFFFF):
        assert decide(made.program, number, audit=made.architecture.audit) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_other_processors_calls_kill(machine):
    made = Filter("strict", machine)
    other = ARCHITECTURES[next(m for m in MACHINES if m != machine)].audit
    assert decide(made.program, 0, audit=other) == KILLED
    assert decide(made.program, 0, audit=0x40000003) == KILLED


def test_programs_fit_what_the_kernel_takes():
    for profile in ("base", "single", "strict"):
        for machine in MACHINES:
            program = seccomp.assemble(profile, own_pid=OWN, machine=machine)
            assert len(program) % 8 == 0
            assert 0 < len(program) // 8 <= 4096


def test_unknown_processor_has_no_filter():
    assert seccomp.assemble("strict", machine="sparc64") == b""


@pytest.mark.skipif(not HEADER.exists(), reason="needs the kernel's headers")
def test_numbers_are_those_of_the_headers():
    defined = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text()))
    numbers = ARCHITECTURES["x86_64"].numbers
    known = {name: int(defined[name]) for name in numbers if name in defined}
    assert known == {name: number for name, number in numbers.items() if name in defined}
    assert len(known) > 80


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_used_once(machine):
    numbers = ARCHITECTURES[machine].numbers
    assert len(set(numbers.values())) == len(numbers)


def test_this_machine_is_served():
    if os.uname().machine in ARCHITECTURES:
        assert seccomp.assemble("strict")
