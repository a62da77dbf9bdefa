"""Compiles the kernels of one Triton module ahead of time: a program, executed in the sandbox.

Usage: triton_compile.py MODULE FOLDER ARCH REQUESTS_AS_JSON. It is given to the interpreter as a
file and imports nothing of this package. It writes `<kernel>.cubin` for each kernel and
`kernels.json`, which says what a launcher must know of them.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

INDEX_FILE = "kernels.json"


def counters_in(index: bytes) -> dict[str, float]:
    """Return `<kernel>.registers` and its like from the text of `kernels.json`."""
    return {
        f"{kernel}.{name}": float(value)
        for kernel, facts in json.loads(index).items()
        for name, value in facts["counters"].items()
    }


def main(arguments: list[str]) -> int:
    """Run the program; the traceback of a failure goes to stderr as it is."""
    unit, folder, arch, requests = arguments
    module = _load(Path(unit))
    index = {
        name: _compile(getattr(module, name, None), name, request, arch, Path(folder))
        for name, request in json.loads(requests).items()
    }
    (Path(folder) / INDEX_FILE).write_text(json.dumps(index, indent=1, sort_keys=True))
    return 0


def _load(path: Path) -> Any:
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location("candidate", path.resolve())
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path.name} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _compile(
    function: Any, name: str, request: dict[str, Any], arch: str, folder: Path
) -> dict[str, Any]:
    # This file is imported where triton need not be installed.
    triton = importlib.import_module("triton")
    backends = importlib.import_module("triton.backends.compiler")
    compiler = importlib.import_module("triton.compiler")
    if not isinstance(function, triton.JITFunction):
        raise SystemExit(f"the launch plan names {name!r}, which is no @triton.jit function")
    signature, constants = _signature(function, name, request["types"])
    source = compiler.ASTSource(function, signature, constants, {})
    target = backends.GPUTarget("cuda", int(arch.removeprefix("sm_").rstrip("a")), 32)
    compiled = triton.compile(source, target=target, options={"num_warps": request["warps"]})
    (folder / f"{name}.cubin").write_bytes(compiled.asm["cubin"])
    metadata = compiled.metadata
    return {
        "symbol": metadata.name,
        "types": request["types"],
        "warps": metadata.num_warps,
        "counters": {"shared_bytes": metadata.shared},
        "scratch_bytes": {
            key: getattr(metadata, key, 0)
            for key in ("global_scratch_size", "profile_scratch_size")
        },
    }


def _signature(function: Any, name: str, types: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    parameters = list(function.params)
    passed = [p for p in parameters if not p.is_constexpr]
    if len(passed) != len(types):
        raise SystemExit(
            f"{name} takes {len(passed)} arguments that are no constexpr, the launch plan passes "
            f"{len(types)}"
        )
    signature = {p.name: "constexpr" for p in parameters if p.is_constexpr}
    signature |= {p.name: kind for p, kind in zip(passed, types, strict=True)}
    constants: dict[str, Any] = {}
    for parameter in (p for p in parameters if p.is_constexpr):
        if not parameter.has_default:
            raise SystemExit(f"{name}: give the constexpr {parameter.name!r} a default value")
        constants[parameter.name] = parameter.default
    return {p.name: signature[p.name] for p in parameters}, constants


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
