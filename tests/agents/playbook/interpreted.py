"""Runs the launches of a Triton candidate on this machine's processor, by Triton's interpreter.

`python -m tests.agents.playbook.interpreted FOLDER...`: each holds `candidate.py` and `case.npz`,
the tensors and one text, `launches`; what the kernels leave replaces it. A program of its own
because Triton reads the environment once, when it is imported.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

POISON = 0x7FA5A5A5
"""A NaN, where it is read as a float."""


def main(*folders: str) -> None:
    """Launch everything of every folder, in order, each program of a grid after the other."""
    let_sizes_be_indices()
    for folder in folders:
        run(Path(folder))


def run(folder: Path) -> None:
    """Run one case."""
    spec = importlib.util.spec_from_file_location(folder.name, folder / "candidate.py")
    case_path = folder / "case.npz"
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} holds no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(case_path) as case:
        arrays = {name: case[name] for name in case.files}
    described = json.loads(str(arrays.pop("launches")))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    workspace = torch.full((described["workspace_words"],), POISON, dtype=torch.int32)
    passed = {**tensors, "workspace": workspace.view(getattr(torch, described["sums"]))}
    for launch in described["launches"]:
        arguments = [passed[a] if isinstance(a, str) else a for a in launch["arguments"]]
        kernel = getattr(module, launch["kernel"])
        kernel[tuple(launch["grid"])](*arguments, **launch["constants"])
    left: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez(case_path, **left)


def let_sizes_be_indices() -> None:
    """Mend what numpy 2.4 took away: Triton 3.6 makes numbers of arrays with one element."""
    interpreter: Any = importlib.import_module("triton.runtime.interpreter")
    prepare = interpreter._patch_lang_tensor

    def prepared(tensor: Any, scope: Any) -> None:
        prepare(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = prepared


if __name__ == "__main__":
    main(*sys.argv[1:])
