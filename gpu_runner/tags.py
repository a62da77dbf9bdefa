"""What a worker's machine offers beside what its environment says: tools, found without loading.

The pool leases a job only to workers that have the tags it needs (`dispatch.py`).
"""

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from typing import Final

from pydantic import TypeAdapter, ValidationError

from gpu_runner.envelope import Tag
from gpu_runner.errors import PoolError

_TAG: TypeAdapter[str] = TypeAdapter(Tag)


def _is_importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _is_on_path(name: str) -> bool:
    return shutil.which(name) is not None


_FOUND_BY: Final[dict[str, Callable[[], bool]]] = {
    "nvrtc": lambda: _is_importable("cuda"),
    "triton": lambda: _is_importable("triton"),
    "ncu": lambda: _is_on_path("ncu"),
    "sanitizer": lambda: _is_on_path("compute-sanitizer"),
}


def machine_tags(own: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the tags of this machine and those its owner gives it, sorted.

    Raises:
        PoolError: one of the owner's is no tag.
    """
    for tag in own:
        try:
            _TAG.validate_python(tag)
        except ValidationError as error:
            msg = (
                f"{tag!r} is no tag; use lower-case letters, digits and . _ + : - , "
                "at most 64 of them"
            )
            raise PoolError(msg) from error
    return tuple(sorted({*own, *(tag for tag, is_there in _FOUND_BY.items() if is_there())}))
