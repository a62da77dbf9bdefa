"""A candidate as files of the repository: its sources and how they are built. Pure."""

import json
from pathlib import PurePosixPath
from typing import Final

from pydantic import JsonValue

from gpu_runner.candidate import Candidate, Language
from graph.errors import ShipFailed

# What the builder of the runner uses; a test holds the two together.
COMPILERS: Final = {".cpp": "g++", ".cc": "g++", ".cxx": "g++", ".c": "gcc"}
STANDARDS: Final = {"g++": "-std=c++20", "gcc": "-std=gnu17"}
COMPILE_FLAGS: Final = (
    *("-O3", "-march=native", "-fopenmp", "-fPIC", "-fvisibility=hidden", "-Wall"),
)
LINK_FLAGS: Final = (
    *("-shared", "-fopenmp", "-Wl,--require-defined=kp_run"),
    "-Wl,-z,defs,-z,now,-z,noexecstack",
)
ENTRY: Final = "candidate.py"


def kernel_files(candidate: Candidate, version: str) -> dict[str, str]:
    """Return the files of one version, by path inside `kernels/`.

    Raises:
        ShipFailed: the repository cannot build the candidate's language yet.
    """
    files = {f"{version}/{source.path}": source.text for source in candidate.sources}
    match candidate.language:
        case Language.CPP:
            steps = _native_steps(candidate)
        case Language.PYTHON:
            steps = {"calling": candidate.calling, "entry": _entry(candidate)}
        case Language.CUDA | Language.TRITON:
            raise ShipFailed(
                f"version {version} is written in {candidate.language.value}, which the standalone "
                "repository cannot load; its sources are in the run's blobs"
            )
    described: dict[str, JsonValue] = {
        "language": candidate.language.value,
        "candidate": candidate.digest,
        **steps,
    }
    files[f"{version}/build.json"] = json.dumps(described, indent=1) + "\n"
    return files


def _native_steps(candidate: Candidate) -> dict[str, JsonValue]:
    compiled: list[JsonValue] = []
    for source in candidate.sources:
        compiler = COMPILERS.get(PurePosixPath(source.path).suffix)
        if compiler is not None:
            command: list[JsonValue] = [
                *(compiler, STANDARDS[compiler], *COMPILE_FLAGS),
                *candidate.flags,
            ]
            compiled.append({"path": source.path, "command": command})
    link: list[JsonValue] = ["g++", *LINK_FLAGS, "-Wl,--version-script=exports.map"]
    return {"compile": compiled, "link": link}


def _entry(candidate: Candidate) -> str:
    paths = [source.path for source in candidate.sources]
    return ENTRY if ENTRY in paths else next(path for path in paths if path.endswith(".py"))
