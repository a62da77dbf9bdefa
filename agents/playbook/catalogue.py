"""The recipes: templates with tables of parameters, read from `agents/recipes/<language>/`.

A recipe and its parameters render to one candidate; the same values give the same text, byte for
byte. What a parameter is worth is found by search, never written here.
"""

import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import Field

from agents.errors import NothingFits
from agents.playbook.families import Match
from agents.replies import Movement
from gpu_runner.candidate import Candidate, Language, Source
from gpu_runner.message import Message, Name

Value = int | float | str | bool
Parameters = Mapping[str, Value]
_ROOT = "recipes/cpp"
_WIDTHS = (("avx512f", 64), ("avx2", 32), ("", 16))
VECTOR_BYTES = "vector_bytes"


class Choice(Message):
    """One parameter: its values, best known first, and which bottleneck asks for which."""

    name: Name
    values: tuple[Value, ...] = Field(min_length=1)
    reason: str
    answers: dict[str, Value] = Field(default_factory=dict)
    """Bottleneck class to the value that treats it."""


class Recipe(Message):
    """A parametrised source."""

    name: Name
    family: Name
    template: str
    idea: str
    """What the kernel does, in a sentence; becomes the motivation of its attempts."""
    choices: tuple[Choice, ...] = ()
    answers: tuple[str, ...] = ()
    """Bottleneck classes that moving to this recipe treats."""
    flags: tuple[str, ...] = ()
    """Compiler flags of its candidates."""
    needs: tuple[str, ...] = ()
    """Instruction-set names the machine must have."""
    is_portable: bool = False
    """Plain loops for any machine: the first attempt, and where a repair falls back to."""
    expects: Movement

    @property
    def path(self) -> str:
        """Where the template lies, for citations."""
        return f"agents/{_ROOT}/{self.template}"

    def defaults(self) -> dict[str, Value]:
        """Return the best-known parameters."""
        return {choice.name: choice.values[0] for choice in self.choices}

    def combinations(self) -> Iterator[dict[str, Value]]:
        """Yield every set of parameters, the best-known values first."""
        names = [choice.name for choice in self.choices]
        for values in itertools.product(*(choice.values for choice in self.choices)):
            yield dict(zip(names, values, strict=True))

    def fits(self, parameters: Parameters) -> bool:
        """Say whether these are parameters of this recipe, each with a value it may take."""
        allowed = {choice.name: choice.values for choice in self.choices}
        return set(parameters) == set(allowed) and all(
            value in allowed[name] for name, value in parameters.items()
        )


def recipes_of(family: str, isa: tuple[str, ...]) -> tuple[Recipe, ...]:
    """Return the family's recipes that this machine can run, portable ones first.

    Args:
        family: a folder of `agents/recipes/cpp`.
        isa: the machine's extensions; decides which vector widths are offered.

    Raises:
        NothingFits: the family has no recipe.
    """
    widest = next(width for name, width in _WIDTHS if not name or name in isa)
    found = tuple(
        _narrowed(recipe, widest) for recipe in _read(family) if set(recipe.needs) <= set(isa)
    )
    if not found:
        raise NothingFits(
            f"family {family!r} has no recipe for {' '.join(isa) or 'this machine'}; add one under "
            f"agents/{_ROOT}/{family}/recipes.yaml"
        )
    return found


def _narrowed(recipe: Recipe, widest: int) -> Recipe:
    """Drop vector widths beyond the machine's, and those below half of it."""
    choices = []
    for choice in recipe.choices:
        if choice.name == VECTOR_BYTES:
            fitting = tuple(v for v in choice.values if widest // 2 <= int(v) <= widest)
            choice = choice.model_copy(update={"values": fitting or choice.values[-1:]})  # noqa: PLW2901 - narrowed
        choices.append(choice)
    return recipe.model_copy(update={"choices": tuple(choices)})


@cache
def _read(family: str) -> tuple[Recipe, ...]:
    text = (_folder(family) / "recipes.yaml").read_text(encoding="utf-8")
    return tuple(
        Recipe.model_validate({"family": family, **entry}) for entry in yaml.safe_load(text)
    )


def notes_of(family: str) -> str:
    """Return what is known of the family, Markdown."""
    return (_folder(family) / "notes.md").read_text(encoding="utf-8")


def notes_path(family: str) -> str:
    """Return where the notes lie inside the package."""
    return f"agents/{_ROOT}/{family}/notes.md"


def _folder(family: str) -> Traversable:
    return files("agents").joinpath(*_ROOT.split("/"), family)


@cache
def _environment() -> Environment:
    return Environment(  # noqa: S701 - C++ text; there is nothing to escape
        loader=PackageLoader("agents", _ROOT),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def render(recipe: Recipe, match: Match, parameters: Parameters) -> Candidate:
    """Return the candidate that a recipe makes of a problem with these parameters."""
    text = _environment().get_template(recipe.template).render({**match.binding, **parameters})
    sources = (Source(path="kernel.cpp", text=text),)
    return Candidate(language=Language.CPP, sources=sources, flags=recipe.flags)
