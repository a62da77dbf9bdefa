#!/usr/bin/env python3
"""Create `.venv` from requirements.lock, or do nothing when it already holds that lock.

Runs before anything is installed: standard library only. Safe to start twice at once; an
interrupted set-up is taken up by the next one, because the stamp is written last.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
STAMP = VENV / "lock.sha256"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
PINS = VENV / "requirements.txt"
"""The lock as installed here: torch pinned with the local version that was chosen."""
IMPORTED = (
    ("torch._inductor.codegen.cpp", "torch._inductor.compile_fx", "torch._numpy"),
    ("graph.cli", "gpu_runner.cli", "anthropic", "chromadb", "langchain_openai", "hypothesis"),
)
"""Modules that load what the product and its tests use; a process for each group."""


def say(text: str) -> None:
    """Print progress where it does not disturb a command's own output."""
    print(f"install: {text}", file=sys.stderr, flush=True)


def is_current(digest: str) -> bool:
    """Whether the venv was finished from this very lock."""
    return (
        (VENV / "bin" / "kernelpilot").exists()
        and STAMP.is_file()
        and STAMP.read_text().strip() == digest
    )


def pin_of(name: str, lock: str) -> str:
    """Return the version the lock pins for a distribution."""
    found = re.search(rf"^{re.escape(name)}==(\S+)$", lock, re.MULTILINE)
    if found is None:
        raise SystemExit(f"install: {LOCK.name} does not pin {name!r}; write it with `make lock`")
    return found.group(1)


def link_folders() -> list[str]:
    """Return pip's own find-links, which uv does not read."""
    asked = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True,
        text=True,
        check=False,
    )
    places = [*os.environ.get("PIP_FIND_LINKS", "").split()]
    places += asked.stdout.split() if asked.returncode == 0 else []
    return list(dict.fromkeys(places))


def cpu_wheel_folder(places: list[str], version: str) -> str | None:
    """Return the find-links folder that holds torch's CPU wheel for this Python."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for place in places:
        folder = Path(place.removeprefix("file://"))
        if folder.is_dir() and any(folder.glob(f"torch-{version}+cpu-{tag}-*.whl")):
            return place
    return None


def run(*command: object, is_fatal: bool = True) -> bool:
    """Run a command with its output shown; end the set-up with its name when it fails."""
    words = [str(word) for word in command]
    is_ok = subprocess.run(words, check=False, cwd=ROOT, stdin=subprocess.DEVNULL).returncode == 0
    if is_fatal and not is_ok:
        raise SystemExit(f"install: this command failed, see above: {shlex.join(words)}")
    return is_ok


def make_venv() -> None:
    """Create the venv unless a working one is there."""
    works = PYTHON.exists() and run(PYTHON, "-m", "pip", "--version", "-q", is_fatal=False)
    if works:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    say(f"creating {VENV.name} with Python {sys.version.split()[0]}")
    if not run(sys.executable, "-m", "venv", VENV, is_fatal=False):
        raise SystemExit(
            "install: this Python cannot create a venv; on Debian: apt-get install python3-venv"
        )


def install_with_uv(lock: str) -> bool:
    """Install the pins by uv, seconds instead of minutes; return whether that worked."""
    version = pin_of("torch", lock)
    folder = cpu_wheel_folder(link_folders(), version)
    install = [UV, "pip", "install", "--quiet", "--python", PYTHON, "--no-deps"]
    if folder is None:
        say("no local CPU wheel of torch; taking it from PyTorch's CPU index")
        PINS.write_text(lock)
        is_ok = run(*install, "--torch-backend=cpu", "-r", PINS, is_fatal=False)
    else:
        PINS.write_text(lock.replace(f"torch=={version}\n", f"torch=={version}+cpu\n"))
        is_ok = run(*install, "--find-links", folder, "-r", PINS, is_fatal=False)
    return is_ok and run(*install, "--no-build-isolation", "--editable", ROOT, is_fatal=False)


def install_with_pip(lock: str) -> None:
    """Install the pins by pip; torch with its dependencies, for no index of CPU wheels is known."""
    version = pin_of("torch", lock)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    PINS.write_text(
        lock.replace(f"torch=={version}\n", "").replace(f"uv=={pin_of('uv', lock)}\n", "")
    )
    run(*pip, "--no-deps", "-r", PINS)
    if cpu_wheel_folder(link_folders(), version) is None:
        say("no local CPU wheel of torch; pip takes the default one, gigabytes with its libraries")
        run(*pip, f"torch=={version}")
    else:
        run(*pip, "--no-deps", f"torch=={version}+cpu")
    run(*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT)


def compile_bytecode() -> None:
    """Keep the bytecode of what is imported; nobody else may be able to.

    uv compiles nothing, sandboxed jobs cannot write here, and with PYTHONDONTWRITEBYTECODE, usual
    in containers, no process does: each import of torch would then take two seconds longer.
    """
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = [
        subprocess.Popen(
            [PYTHON, "-c", f"import {', '.join(modules)}"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
        )
        for modules in IMPORTED
    ]
    if sum(process.wait() for process in started):
        say("not everything could be compiled, see above; it only takes longer to start")


def install(digest: str) -> None:
    """Bring the venv to the lock and stamp it."""
    lock = LOCK.read_text()
    make_venv()
    STAMP.unlink(missing_ok=True)
    wanted = f"uv=={pin_of('uv', lock)}"
    say(f"installing {len(re.findall('^[^#].*==', lock, re.MULTILINE))} pinned distributions")
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if not (run(*pip, wanted, is_fatal=False) and install_with_uv(lock)):
        say("uv could not do it, see above; going on with pip, which takes some minutes")
        install_with_pip(lock)
    say("compiling what is imported")
    compile_bytecode()
    STAMP.write_text(f"{digest}\n")
    say(f"{VENV.name} is ready")


def main() -> None:
    """Set up once, however many ask at the same time."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it runs before pip could refuse an old Python
        raise SystemExit(
            f"install: KernelPilot needs Python 3.11 or newer, this is {sys.version.split()[0]}; "
            "name one: make install PYTHON=python3.11"
        )
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if is_current(digest):
        return
    with LOCK.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if is_current(digest):
            return
        run("bash", ROOT / "scripts" / "system_packages.sh")
        install(digest)


if __name__ == "__main__":
    main()
