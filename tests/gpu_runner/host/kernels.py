"""Real artefacts for tests of subjects: one shared object with many misbehaviours, and modules."""

import subprocess
from pathlib import Path

from gpu_runner.candidate import Language
from gpu_runner.host.arena import Arena
from gpu_runner.host.subject import SubjectPlan
from gpu_runner.languages.artefact import Artefact
from gpu_runner.problem import Problem, Scalar, Workload
from tests.builders import make_problem, make_workload

POISON = 0xFFC0DEAD

MODES = (
    *("double_it", "crash", "hang", "exit_0", "exit_3", "abort", "fork", "vfork_exec"),
    *("forge_wrong_number", "forge_long", "forge_short", "forge_empty", "answer_twice"),
    *("write_after", "write_before", "read_after", "read_before", "write_nothing"),
    *("write_half", "mutate_input", "return_7", "close_channel", "write_later", "wake_by_timer"),
    *("wake_by_kill", "probe_system_calls", "unmask_input", "print_much", "count_threads"),
    *(
        "use_processor",
        "exit_thread_main",
        "wake_by_setsig",
        "read_memory",
        "is_pinned",
        "read_supervisor",
    ),
)

_C = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct args { const float* x; float* y; int64_t B, N, mode; double scale; int64_t threads; };
enum { MODES };

static const struct args* later_args;

static void double_it(const struct args* a) {
  for (int64_t i = 0; i < a->B * a->N; ++i) a->y[i] = (float)(a->scale * a->x[i]);
}

static void to_channels(const void* bytes, size_t size) {
  for (int fd = 3; fd < 64; ++fd) {
    int kind = 0;
    socklen_t length = sizeof kind;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &length) == 0)
      if (write(fd, bytes, size) < 0) perror("write");
  }
}

static void* later(void* milliseconds) {
  struct timespec pause = {0, (long)(intptr_t)milliseconds * 1000000};
  nanosleep(&pause, NULL);
  double_it(later_args);
  return NULL;
}

static void* spin(void* unused) {
  (void)unused;
  for (;;) double_it(later_args);
}

static void* keep_waking(void* unused) {
  (void)unused;
  for (;;) kill(getpid(), SIGCONT);
}

static void start(void* (*work)(void*), intptr_t value) {
  pthread_t thread;
  pthread_create(&thread, NULL, work, (void*)value);
}

static void arm_timer(void) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
  struct itimerspec when = {.it_value = {0, 100000000}};
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) timer_settime(timer, 0, &when, NULL);
}

/* Errors of calls that must not work, in order. */
static void probe(const struct args* a) {
  int64_t i = 0;
  pthread_t thread;
  int thread_error = pthread_create(&thread, NULL, later, (void*)0);
  if (thread_error == 0) pthread_join(thread, NULL);
#define TRY(call) errno = 0, a->y[i++] = (call) < 0 ? (float)errno : 0.0f
  TRY(fork());
  TRY(syscall(SYS_vfork));
  TRY(syscall(SYS_clone3, NULL, 0));
  TRY(execl("/bin/true", "true", NULL));
  TRY(socket(AF_INET, SOCK_STREAM, 0));
  TRY(socket(AF_UNIX, SOCK_STREAM, 0));
  TRY(kill(1, SIGKILL));
  TRY(kill(-1, SIGKILL));
  TRY(kill(getpid(), SIGCONT));
  TRY(syscall(SYS_ptrace, 0, 0, 0, 0));
  TRY(syscall(SYS_bpf, 0, NULL, 0));
  TRY(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
  TRY(syscall(SYS_userfaultfd, 0));
  TRY(syscall(SYS_io_uring_setup, 1, NULL));
  TRY(syscall(SYS_pidfd_open, 1, 0));
  TRY(syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0));
  TRY(syscall(SYS_unshare, 0x10000000));
  TRY(syscall(SYS_mount, "a", "b", "c", 0, NULL));
  TRY(fcntl(0, 10, SIGCONT));
  TRY(prctl(PR_SET_PDEATHSIG, SIGCONT));
  TRY(prctl(PR_SET_DUMPABLE, 0));
  TRY(syscall(SYS_timer_create, 0, NULL, NULL));
  a->y[i++] = (float)(kill(getpid(), 0) == 0);
  a->y[i++] = (float)thread_error;
}

static void own_number(uint64_t* number) { *number = 12345; }

int kp_run(const struct args* a) {
  float* end = a->y + a->B * a->N;
  uint64_t number;
  static char text[1 << 16];
  cpu_set_t cpus;
  later_args = a;
  own_number(&number);
  switch ((int)a->mode) {
    case CRASH: *(volatile int*)8 = 1; break;
    case HANG: for (;;) pause();
    case EXIT_0: exit(0);
    case EXIT_3: _exit(3);
    case ABORT: abort();
    case FORK: double_it(a); if (fork() == 0) for (;;) pause(); break;
    case VFORK_EXEC:
      double_it(a);
      if (vfork() == 0) {
        execl("/bin/sleep", "sleep", "60", NULL);
        _exit(1);
      }
      break;
    case FORGE_WRONG_NUMBER: double_it(a); to_channels(&number, 8); break;
    case FORGE_LONG: double_it(a); to_channels(text, 40); break;
    case FORGE_SHORT: to_channels(text, 3); break;
    case FORGE_EMPTY: to_channels(text, 0); break;
    case ANSWER_TWICE: double_it(a); to_channels("\3\3\3", 3); break;
    case WRITE_AFTER: double_it(a); *(volatile float*)end = 1; break;
    case WRITE_BEFORE: double_it(a); *(volatile float*)(a->y - 1) = 1; break;
    case READ_AFTER: double_it(a); a->y[0] = *(volatile const float*)(a->x + a->B * a->N); break;
    case READ_BEFORE: double_it(a); a->y[0] = *(volatile const float*)(a->x - 1); break;
    case WRITE_NOTHING: break;
    case WRITE_HALF: memset(a->y, 0, (size_t)(a->B * a->N / 2) * 4); break;
    case MUTATE_INPUT: *(volatile float*)a->x = 0; break;
    case RETURN_7: return 7;
    case CLOSE_CHANNEL: for (int fd = 3; fd < 64; ++fd) close(fd); for (;;) pause();
    case WRITE_LATER: start(later, 20); break;
    case WAKE_BY_TIMER: double_it(a); arm_timer(); start(spin, 0); break;
    case WAKE_BY_KILL: double_it(a); start(keep_waking, 0); start(spin, 0); break;
    case WAKE_BY_SETSIG: double_it(a); a->y[0] = (float)fcntl(0, 10, SIGCONT); break;
    case PROBE_SYSTEM_CALLS: probe(a); break;
    case UNMASK_INPUT:
      double_it(a);
      a->y[0] = (float)mprotect((void*)((uintptr_t)a->x & ~4095ul), 4096, PROT_READ | PROT_WRITE);
      break;
    case PRINT_MUCH:
      double_it(a);
      memset(text, 'a', sizeof text - 1);
      for (int i = 0; i < 64; ++i) if (write(1, text, sizeof text) < 0) break;
      break;
    case COUNT_THREADS: double_it(a); start(spin, 0); start(spin, 0); break;
    case USE_PROCESSOR: for (int i = 0; i < 20000; ++i) double_it(a); break;
    case EXIT_THREAD_MAIN: start(spin, 0); pthread_exit(NULL);
    case READ_MEMORY: double_it(a); a->y[0] = (float)open("/etc/shadow", O_RDONLY); break;
    case READ_SUPERVISOR:
      double_it(a);
      snprintf(text, sizeof text, "/proc/%d/mem", (int)a->scale);
      a->y[0] = (float)open(text, O_RDONLY);
      break;
    case IS_PINNED:
      double_it(a);
      sched_getaffinity(0, sizeof cpus, &cpus);
      a->y[0] = (float)CPU_COUNT(&cpus);
      CPU_SET(0, &cpus);
      CPU_SET(1, &cpus);
      a->y[1] = (float)sched_setaffinity(0, sizeof cpus, &cpus);
      a->y[2] = (float)a->threads;
      break;
    default: double_it(a);
  }
  return 0;
}
"""


def build_shared_object(folder: Path) -> Artefact:
    """Compile the misbehaviours."""
    names = ", ".join(mode.upper() for mode in MODES)
    source = folder / "kernel.c"
    source.write_text(_C.replace("enum { MODES };", f"enum {{ {names} }};"))
    flags = ["-O1", "-shared", "-fPIC", "-pthread"]
    subprocess.run(["gcc", *flags, source, "-o", folder / "kernel.so"], check=True)
    return make_artefact(folder, Language.CPP)


def write_module(folder: Path, text: str, **changes) -> Artefact:
    """Write a Python candidate."""
    folder.mkdir(exist_ok=True)
    (folder / "candidate.py").write_text(text)
    return make_artefact(folder, Language.PYTHON, **changes)


def make_artefact(folder: Path, language: Language, **changes) -> Artefact:
    """What a builder would say of this folder."""
    values = {
        "path": folder,
        "digest": "0" * 64,
        "language": language,
        "calling": "returning",
        "compiler": "gcc",
        "log_tail": "",
        "seconds": 0.0,
        "is_cached": False,
    }
    return Artefact(**{**values, **changes})


def make_scaling(**changes) -> Problem:
    """y = scale * x, with the misbehaviour as a scalar."""
    scalars = (Scalar(name="mode", kind="int"), Scalar(name="scale", default=2.0))
    return make_problem(**{"name": "scaling", "scalars": scalars, "library_ops": (), **changes})


def make_mode(mode: str, **changes) -> Workload:
    """64 elements and one misbehaviour."""
    values = {"axes": {"B": 4, "N": 16}, "scalars": {"mode": MODES.index(mode)}}
    return make_workload(**{**values, **changes})


def make_plan(artefact: Artefact, *arenas: Arena, **changes) -> SubjectPlan:
    """One thread on the last processor, short patience."""
    values = {
        "artefact": artefact,
        "problem": arenas[0].problem,
        "workloads": tuple(arena.workload for arena in arenas),
        "arenas": arenas,
        "threads": 1,
        "cpu": None,
        "start_timeout_s": 60.0,
        "call_timeout_s": 20.0,
    }
    return SubjectPlan(**{**values, **changes})
