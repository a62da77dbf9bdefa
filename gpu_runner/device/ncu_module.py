"""Reads `.ncu-rep` with the tool's own Python module, where that is there and no ncu is.

The module comes with Nsight Compute (`extras/python`) and is found where PYTHONPATH names it.
"""

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

from gpu_runner.device.ncu_csv import CaptureUnreadable, ProfiledLaunch
from gpu_runner.device.ncu_numbers import scale_of

_MODULE = "ncu_report"
_WORDS = ("device__attribute_display_name",)


def find_module() -> ModuleType | None:
    """Return the module, or None where there is none that loads."""
    try:
        return importlib.import_module(_MODULE)
    except ImportError:
        return None


def read_module(module: ModuleType, path: Path) -> tuple[ProfiledLaunch, ...]:
    """Return every launch of a report, in order.

    Raises:
        CaptureUnreadable: the module does not read this file, or it has no launch.
    """
    try:
        report = module.load_report(str(path))
        actions = [
            area.action_by_idx(action)
            for area in (report.range_by_idx(index) for index in range(report.num_ranges()))
            for action in range(area.num_actions())
        ]
        found = tuple(_launch(index, action) for index, action in enumerate(actions))
    except (RuntimeError, ValueError, OSError, AttributeError, TypeError) as error:
        raise CaptureUnreadable(
            f"{_MODULE} cannot read {path}: {error}; export it with ncu --import instead"
        ) from error
    if not found:
        raise CaptureUnreadable(f"{path} holds no launch; capture it again")
    return found


def _launch(index: int, action: Any) -> ProfiledLaunch:
    readings: dict[str, float] = {}
    words: dict[str, str] = {}
    for name in action.metric_names():
        metric = action.metric_by_name(name)
        if metric is None:
            continue
        if name in _WORDS:
            words[name] = str(metric.as_string())
            continue
        value = _value(metric)
        if value is not None and math.isfinite(value):
            readings[name] = value * scale_of(str(metric.unit() or ""))
    return ProfiledLaunch(index=index, kernel=str(action.name()), readings=readings, words=words)


def _value(metric: Any) -> float | None:
    """Return a metric's number; text and what was not measured have none."""
    try:
        value = metric.as_double()
    except (RuntimeError, TypeError, ValueError):
        return None
    return None if value is None else float(value)
