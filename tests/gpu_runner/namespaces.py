"""Network namespaces joined by a bridge: machines of a network, on one machine.

Each is held by a process that ends with this one, and goes with it; nothing of this machine's own
network is touched. Without root they lie in a user namespace of their own.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from functools import cache

_NETWORK = "10.77.0"
_MOST = 200
_TOOLS = ("ip", "nsenter", "unshare", "cat")
_SETUP_S = 20.0


class NoNamespaces(Exception):
    """They cannot be made here; says why."""


class Holder:
    """A process that keeps a network namespace; its end is its standard input's."""

    def __init__(self, *before, as_root=True):
        way_in = ["unshare", *([] if as_root else ["--map-root-user"]), "--net"]
        # What `cat` says is how one knows that it is there and no longer `unshare`.
        self.process = subprocess.Popen(
            [*before, *way_in, "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"here\n")
            self.process.stdin.flush()
        if self.process.stdout.readline() != b"here\n":
            said = self.process.communicate()[1].decode().strip()
            raise NoNamespaces(f"no network namespace: {said}")

    @property
    def pid(self):
        return self.process.pid

    def close(self):
        self.process.kill()
        self.process.communicate()


class Network:
    """`with Network(3) as network`: three hosts, each at `address(number)`, on one switch."""

    def __init__(self, hosts):
        assert hosts <= _MOST
        self._as_root = os.geteuid() == 0
        self._count = hosts
        self._hosts: list[Holder] = []
        self._switch: Holder

    def __enter__(self):
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing:
            raise NoNamespaces(f"not installed: {', '.join(missing)}")
        self._switch = Holder(as_root=self._as_root)
        try:
            self._on_switch("ip link add br0 type bridge")
            self._on_switch("ip link set br0 up")
            for number in range(self._count):
                self._add(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for holder in (*self._hosts, self._switch):
            holder.close()

    @staticmethod
    def address(number):
        return f"{_NETWORK}.{number + 1}"

    def inside(self, number):
        """What goes before a command that is to run on a host; its process stays the command's."""
        return self._way_into(self._hosts[number])

    def partition(self, number):
        """Let nothing pass to or from a host any more: what is sent is lost and nobody is told."""
        self._on_switch(f"ip link set port{number} nomaster")

    def heal(self, number):
        self._on_switch(f"ip link set port{number} master br0")

    def _add(self, number):
        self._hosts.append(Holder(*self._way_into(self._switch)))
        pid = self._hosts[-1].pid
        self._on_switch(f"ip link add port{number} type veth peer name eth0 netns {pid}")
        self._on_switch(f"ip link set port{number} master br0 up")
        for words in (
            "ip link set lo up",
            f"ip address add {self.address(number)}/24 dev eth0",
            "ip link set eth0 up",
        ):
            _run([*self.inside(number), *words.split()])

    def _on_switch(self, words):
        _run([*self._way_into(self._switch), *words.split()])

    def _way_into(self, holder):
        user = [] if self._as_root else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(holder.pid), *user, "--net"]


def _run(command):
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SETUP_S)
    except subprocess.CalledProcessError as error:
        said = f"{' '.join(command)}: {error.stderr.strip()}"
        raise NoNamespaces(said) from error


@cache
def why_none():
    """Why namespaces cannot be made here; empty where they can."""
    try:
        with Network(2) as network:
            _run([*network.inside(0), "ip", "route", "get", network.address(1)])
    except NoNamespaces as error:
        return str(error)
    return ""


def call_alone(module):
    """Run a module again with our arguments and `--is-alone`, on a network that holds nobody else.

    Returns:
        Its exit code.
    """
    command = [sys.executable, "-m", module, *sys.argv[1:], "--is-alone"]
    with Network(1) as network:
        return subprocess.call([*network.inside(0), *command])
