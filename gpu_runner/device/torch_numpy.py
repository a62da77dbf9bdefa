"""numpy as a reference sees it on a device: the names of `torch._numpy`, and what it lacks.

`torch._numpy` is private to torch. Everything this package takes from it passes through this file,
and no answer got by it is believed before it has agreed with numpy's own.
"""

import builtins
import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch
import torch._numpy as torch_numpy
from torch import Tensor

_RENAMED: Final = {
    "acos": "arccos",
    "acosh": "arccosh",
    "asanyarray": "asarray",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "bool": "bool_",
    "concat": "concatenate",
    "permute_dims": "transpose",
    "pow": "power",
}
"""Newer names of numpy for what is there under an older one."""
_ARRAY: Final[Any] = vars(torch_numpy)["ndarray"]


def _set_default_types() -> None:
    """Tell `torch._numpy` numpy's default types; to look them up it would import a compiler, 5 s.

    Where another version of torch keeps them elsewhere, nothing changes but the time.
    """
    types = vars(torch_numpy).get("_dtypes_impl")
    if types is not None and vars(types).get("_default_dtypes", types) is None:
        types._default_dtypes = types.DefaultDTypes(  # noqa: SLF001 - the one place for it
            float_dtype=torch.float64, complex_dtype=torch.complex128, int_dtype=torch.int64
        )


_set_default_types()


class _ErrorState(contextlib.ContextDecorator):
    """numpy's errstate: on a device nothing is warned of."""

    def __init__(self, **_states: Any) -> None:
        """Accept what numpy's takes."""

    def __enter__(self) -> None:
        """Change nothing."""

    def __exit__(self, *_: object) -> None:
        """Change nothing."""


class _Numpy(ModuleType):
    """The module that `import numpy` gives a reference."""

    errstate = _ErrorState

    def __getattr__(self, name: str) -> Any:
        """Look a name up, once."""
        try:
            found = getattr(torch_numpy, _RENAMED.get(name, name))
        except AttributeError:
            msg = f"numpy.{name} has no counterpart on a device"
            raise AttributeError(msg) from None
        if isinstance(getattr(np, name, None), np.ufunc):
            found = _for_scalars_too(found, getattr(np, name))
        setattr(self, name, found)
        return found


def read_source(source: str, place: str) -> dict[str, Any]:
    """Execute a reference whose `import numpy` is to mean a device's arrays.

    Args:
        source: the reference, trusted like configuration.
        place: its name in tracebacks.
    """
    scope = {**vars(builtins), "__import__": _import}
    module = {"__name__": "reference", "__file__": place, "__builtins__": scope}
    exec(compile(source, place, "exec"), module)  # noqa: S102 - the target's own code
    return module


def to_array(values: Tensor) -> Any:
    """Return what a numpy reference computes with: the same memory as an array."""
    return _ARRAY(values)


def to_tensor(answer: Any, device: str | torch.device) -> Tensor:
    """Return an answer's tensor; a plain number becomes one without dimensions."""
    if isinstance(answer, _ARRAY):
        answer = answer.tensor
    return torch.as_tensor(answer, device=device)


def _for_scalars_too(function: Any, ufunc: Callable[..., Any]) -> Any:
    """Let numbers of Python stay such: as tensors they would make the host wait for a copy."""

    @functools.wraps(ufunc)
    def call(*arguments: Any, **named: Any) -> Any:
        if not named and all(isinstance(a, int | float) for a in arguments):
            return ufunc(*arguments).item()
        return function(*arguments, **named)

    return call


_NUMPY: Final = _Numpy("numpy")


def _import(
    name: str,
    scope: Mapping[str, object] | None = None,
    local: Mapping[str, object] | None = None,
    wanted: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    if name == "numpy":
        return _NUMPY
    if name.startswith("numpy."):
        msg = f"{name} has no counterpart on a device"
        raise ImportError(msg)
    return builtins.__import__(name, scope, local, wanted or (), level)
