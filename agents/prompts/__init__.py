"""The prompts: what each role is told, as templates; the text is product.

A template names in its first line the values it needs. What comes from outside (sources, logs,
passages, other replies) goes in by one of two filters: `quoted` fences a block, `line` makes one
line; neither can be closed by what is in it.
"""

import json
import re
from collections.abc import Mapping
from functools import cache, partial
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from agents.errors import ModelRefused

FENCE = "~~~~"
CHARACTERS_A_TOKEN = 3.0
"""Of prompts that are half code; fewer than models really take, so that a limit is kept."""
_SCALES = (1.0, 0.6, 0.35, 0.2, 0.1)
"""What is quoted is cut to these shares of its length until a prompt fits."""
_NEEDS = re.compile(r"^\{#- needs: ([a-z_, ]*) -#\}\n")
_INCLUDE = re.compile(r'\{% include "([a-z_]+)\.md\.j2" %\}')
_LEAST_LINE = 40


def rendered(name: str, values: Mapping[str, object], most_tokens: int | None = None) -> str:
    """Return the prompt of a role, `plan` say, with its values filled in.

    Args:
        name: of the template.
        values: exactly those that the template and what it includes need.
        most_tokens: of the prompt; quoted text is cut until it fits. None: no limit.

    Raises:
        ModelRefused: it does not fit, however little is quoted.
        ValueError: a value is missing or not needed; names which.
    """
    odd = sorted(needs(name) ^ values.keys())
    if odd:
        raise ValueError(f"prompt {name!r}: {', '.join(odd)} missing or not declared in its needs")
    least = 0
    for scale in _SCALES:
        text = _environment(scale).get_template(f"{name}.md.j2").render(values).strip() + "\n"
        least = tokens(text)
        if most_tokens is None or least <= most_tokens:
            return text
    raise ModelRefused(
        f"the prompt {name!r} takes {least} tokens at least and there is room for {most_tokens}; "
        "use a model with a longer context, or set models.ROLE.context_tokens"
    )


def tokens(text: str) -> int:
    """Estimate the tokens of a text, rather too many than too few."""
    return int(len(text) / CHARACTERS_A_TOKEN) + 1


@cache
def needs(name: str) -> frozenset[str]:
    """Return the values a template declares, with those of what it includes."""
    text = files("agents.prompts").joinpath(f"{name}.md.j2").read_text(encoding="utf-8")
    declared = _NEEDS.match(text)
    if declared is None:
        raise ValueError(f"prompt {name!r} does not begin with a line of its needs")
    own = {word.strip() for word in declared[1].split(",")} - {""}
    return frozenset(own).union(*(needs(other) for other in _INCLUDE.findall(text)))


def quoted(text: str, most: int, label: str = "", scale: float = 1.0) -> str:
    """Return text as a block that is plainly data: fenced, cut to `most` characters.

    A fence inside the text is broken up, so the text cannot end its own block.
    """
    most = max(1, int(most * scale))
    inner = text.replace(FENCE, "~ ~ ~ ~")
    if len(inner) > most:
        head, tail = most * 2 // 3, most // 3
        cut = len(inner) - head - tail
        inner = f"{inner[:head]}\n[... {cut} characters left out ...]\n{inner[-tail:]}"
    return f"{FENCE} {label}".rstrip() + f"\n{inner}\n{FENCE}"


def line(text: str, most: int, scale: float = 1.0) -> str:
    """Return text as one line in quotation marks, cut to `most` characters, blanks joined.

    Quotation marks inside are escaped, so the text can neither end its own nor begin a line.
    """
    most = max(_LEAST_LINE, int(most * scale))
    joined = " ".join(text.split())
    if len(joined) > most:
        joined = f"{joined[: most - 1]}…"
    return json.dumps(joined, ensure_ascii=False)


@cache
def _environment(scale: float) -> Environment:
    made = Environment(  # noqa: S701 - Markdown for a model; there is nothing to escape
        loader=PackageLoader("agents", "prompts"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["quoted"] = partial(quoted, scale=scale)
    made.filters["line"] = partial(line, scale=scale)
    return made
