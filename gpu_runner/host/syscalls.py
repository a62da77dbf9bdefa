"""Numbers of the system calls the filters name, by processor. Source: the unistd tables."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """What differs between processors."""

    audit: int
    """AUDIT_ARCH constant the kernel reports."""
    numbers: dict[str, int]
    """By name; a call the processor has not is absent."""
    has_x32: bool = False
    """Whether a second numbering of the same calls exists beside this one."""


def _table(text: str) -> dict[str, int]:
    words = text.split()
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)}


_SINCE_5_1 = """
    pidfd_send_signal 424  io_uring_setup 425  io_uring_enter 426  io_uring_register 427
    open_tree 428  move_mount 429  fsopen 430  fsconfig 431  fsmount 432  fspick 433  pidfd_open 434
    clone3 435  pidfd_getfd 438  process_madvise 440  mount_setattr 442  process_mrelease 448
"""
"""From here on every processor has the same numbers."""
_X86_64 = """
    io_setup 206  io_submit 209
    shmget 29  socket 41  connect 42  accept 43  sendmsg 46  bind 49  listen 50  socketpair 53
    clone 56  fork 57  vfork 58  execve 59  kill 62  semget 64  msgget 68  fcntl 72  ptrace 101
    syslog 103  setpriority 141  sched_setparam 142  sched_setscheduler 144
    pivot_root 155  prctl 157  adjtimex 159  chroot 161  acct 163  settimeofday 164  mount 165
    umount2 166  swapon 167  swapoff 168  reboot 169  sethostname 170  setdomainname 171  iopl 172
    ioperm 173  init_module 175  delete_module 176  quotactl 179  tkill 200  sched_setaffinity 203
    timer_create 222  clock_settime 227  tgkill 234  mq_open 240  mq_notify 244  kexec_load 246
    add_key 248  request_key 249  keyctl 250  ioprio_set 251  migrate_pages 256  unshare 272
    move_pages 279  accept4 288  rt_sigqueueinfo 129  rt_tgsigqueueinfo 297  perf_event_open 298
    fanotify_init 300  name_to_handle_at 303  open_by_handle_at 304  clock_adjtime 305  sendmmsg 307
    setns 308  process_vm_readv 310  process_vm_writev 311  kcmp 312  finit_module 313
    sched_setattr 314  kexec_file_load 320  bpf 321  execveat 322  userfaultfd 323
"""
_AARCH64 = """
    io_setup 0  io_submit 2
    fcntl 25  ioprio_set 30  umount2 39  mount 40  pivot_root 41  chroot 51  quotactl 60  acct 89
    unshare 97  kexec_load 104  init_module 105  delete_module 106  timer_create 107
    clock_settime 112  syslog 116  ptrace 117  sched_setparam 118  sched_setscheduler 119
    sched_setaffinity 122  kill 129  tkill 130  tgkill 131  rt_sigqueueinfo 138  setpriority 140
    reboot 142  sethostname 161  setdomainname 162  prctl 167  settimeofday 170  adjtimex 171
    mq_open 180  mq_notify 184  msgget 186  semget 190  shmget 194  socket 198  socketpair 199
    bind 200  listen 201  accept 202  connect 203  sendmsg 211  add_key 217  request_key 218
    keyctl 219  clone 220  execve 221  swapon 224  swapoff 225  migrate_pages 238  move_pages 239
    rt_tgsigqueueinfo 240  perf_event_open 241  accept4 242  fanotify_init 262
    name_to_handle_at 264  open_by_handle_at 265  clock_adjtime 266  setns 268  sendmmsg 269
    process_vm_readv 270  process_vm_writev 271  kcmp 272  finit_module 273  sched_setattr 274
    bpf 280  execveat 281  userfaultfd 282  kexec_file_load 294
"""

ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, _table(_X86_64 + _SINCE_5_1), has_x32=True),
    "aarch64": Architecture(0xC00000B7, _table(_AARCH64 + _SINCE_5_1)),
}
"""By `platform.machine()`."""
