"""Lowers the kernels of one Triton module to PTX: a program, executed in the sandbox.

Usage: triton_compile.py MODULE FOLDER ARCH REQUESTS_AS_JSON. It is given to the interpreter as a
file and imports nothing of this package. It writes `<name>.ptx` for each request and `facts.json`,
which says what only the compiler knows. It executes the candidate's module: nothing that it leaves
is believed before it has been looked at.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

FACTS_FILE = "facts.json"
_WARP = 32


def main(arguments: list[str]) -> int:
    """Run the program; the traceback of a failure goes to stderr as it is."""
    unit, folder, arch, requests = arguments
    _leave_assembling_out()
    module = _load(Path(unit))
    facts = {
        name: _lower(module, name, request, arch, Path(folder))
        for name, request in json.loads(requests).items()
    }
    (Path(folder) / FACTS_FILE).write_text(json.dumps(facts))
    return 0


def _leave_assembling_out() -> None:
    """Make the last stage of triton's pipeline do nothing: the PTX is assembled from outside."""
    nvidia = importlib.import_module("triton.backends.nvidia.compiler")
    nvidia.CUDABackend.make_cubin = lambda *_: b""


def _load(path: Path) -> Any:
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location("candidate", path.resolve())
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path.name} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _lower(
    module: Any, name: str, request: dict[str, Any], arch: str, folder: Path
) -> dict[str, int]:
    # This file is imported where triton need not be installed.
    triton = importlib.import_module("triton")
    backends = importlib.import_module("triton.backends.compiler")
    compiler = importlib.import_module("triton.compiler")
    function = getattr(module, request["kernel"], None)
    if not isinstance(function, triton.JITFunction):
        raise SystemExit(
            f"{request['where']}, kernel: the source has no @triton.jit function of this name"
        )
    signature, constants, attributes = _signature(function, request)
    source = compiler.ASTSource(function, signature, constants, attributes)
    target = backends.GPUTarget("cuda", int(arch.removeprefix("sm_").rstrip("a")), _WARP)
    options = {"num_warps": request["warps"]}
    if request["stages"] is not None:
        options["num_stages"] = request["stages"]
    compiled = triton.compile(source, target=target, options=options)
    (folder / f"{name}.ptx").write_text(compiled.asm["ptx"])
    return {
        "shared_bytes": int(compiled.metadata.shared),
        "scratch_bytes": int(getattr(compiled.metadata, "global_scratch_size", 0)),
    }


def _signature(
    function: Any, request: dict[str, Any]
) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[Any]]]]:
    """Return types and constants by name, and what is known of the arguments by position."""
    types, given = request["types"], dict(request["constants"])
    constants: dict[str, Any] = {}
    signature: dict[str, str] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    passed = 0
    for position, parameter in enumerate(function.params):
        if parameter.is_constexpr:
            signature[parameter.name] = "constexpr"
            constants[parameter.name] = _constant(parameter, given, request["where"])
            continue
        if passed < len(types):
            signature[parameter.name] = types[passed]
            if passed in request["divisible"]:
                attributes[position,] = [["tt.divisibility", 16]]
        passed += 1
    if passed != len(types):
        raise SystemExit(
            f"{request['where']}, arguments: the plan passes {len(types)}, the kernel takes "
            f"{passed} that are no tl.constexpr"
        )
    if given:
        raise SystemExit(
            f"{request['where']}, constants: {min(given)!r} is no tl.constexpr of the kernel; it "
            f"has {sorted(constants)}"
        )
    return signature, constants, attributes


def _constant(parameter: Any, given: dict[str, Any], where: str) -> Any:
    if parameter.name in given:
        return given.pop(parameter.name)
    if not parameter.has_default:
        raise SystemExit(
            f"{where}, constants: give {parameter.name!r} a value here, or a default in the source"
        )
    return parameter.default


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
