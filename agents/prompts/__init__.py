"""The prompts: what each role is told, as templates; the text is product."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

FENCE = "~~~~"


def rendered(name: str, **values: object) -> str:
    """Return the prompt of a role, `plan` say, with its values filled in."""
    return _environment().get_template(f"{name}.md.j2").render(values).strip() + "\n"


def quoted(text: str, most: int, label: str = "") -> str:
    """Return text as a block that is plainly data: fenced, cut to `most` characters.

    A fence inside the text is broken up, so the text cannot end its own block.
    """
    inner = text.replace(FENCE, "~ ~ ~ ~")
    if len(inner) > most:
        head, tail = most * 2 // 3, most // 3
        cut = len(inner) - head - tail
        inner = f"{inner[:head]}\n[... {cut} characters left out ...]\n{inner[-tail:]}"
    return f"{FENCE} {label}".rstrip() + f"\n{inner}\n{FENCE}"


@cache
def _environment() -> Environment:
    made = Environment(  # noqa: S701 - Markdown for a model; there is nothing to escape
        loader=PackageLoader("agents", "prompts"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["quoted"] = quoted
    return made
