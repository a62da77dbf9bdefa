"""Reads spans of time as users write them."""

import re

from graph.errors import SettingsError

_SPAN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?\s*$")
_SECONDS = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float:
    """Return the seconds of `300`, `300s`, `5m`, `2h` or `1d`.

    Raises:
        SettingsError: it is none of these, or zero.
    """
    found = _SPAN.match(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if seconds <= 0:
        raise SettingsError(f"{text!r} is no span of time; write 300s, 5m, 2h or 1d")
    return seconds
