"""The recipes: templates with tables of parameters, read from `agents/recipes/<language>/`.

A recipe and its parameters render to one candidate; the same values give the same text, byte for
byte. A recipe for a GPU has a second template, which renders to its launch plans. What a parameter
is worth is found by search, never written here.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import Field, TypeAdapter

from agents.errors import NothingFits
from agents.playbook.families import Match
from agents.replies import Movement
from gpu_runner.candidate import Candidate, Language, LaunchPlan, Source
from gpu_runner.message import Message, Name

Value = int | float | str | bool
Parameters = Mapping[str, Value]
_ROOT = "recipes"
_ENTRIES = {
    Language.CPP: "kernel.cpp",
    Language.CUDA: "kernel.cu",
    Language.TRITON: "kernel.py",
}
_PLANS: TypeAdapter[tuple[LaunchPlan, ...]] = TypeAdapter(tuple[LaunchPlan, ...])
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
    """Unique in its family, over all languages: the ledger names a recipe by it alone."""
    family: Name
    language: Language
    template: str
    plan: str = ""
    """GPU languages: template of the launch plans, a JSON list of `LaunchPlan`; the last one
    serves every shape."""
    idea: str
    """What the kernel does, in a sentence; becomes the motivation of its attempts."""
    choices: tuple[Choice, ...] = ()
    answers: tuple[str, ...] = ()
    """Bottleneck classes that moving to this recipe treats."""
    flags: tuple[str, ...] = ()
    """Compiler flags of its candidates."""
    needs: tuple[str, ...] = ()
    """Names of the machine's instruction-set extensions or architecture that it must have."""
    is_portable: bool = False
    """Plain loops for any machine: the first attempt, and where a repair falls back to."""
    expects: Movement

    @property
    def path(self) -> str:
        """Where the template lies, for citations."""
        return f"agents/{_ROOT}/{self.language.value}/{self.template}"

    @property
    def entry(self) -> str:
        """The source file of its candidates."""
        return _ENTRIES[self.language]

    def defaults(self) -> dict[str, Value]:
        """Return the best-known parameters."""
        return {choice.name: choice.values[0] for choice in self.choices}

    def combinations(self) -> Iterator[dict[str, Value]]:
        """Yield every set of parameters, the best-known values first."""
        names = [choice.name for choice in self.choices]
        for values in itertools.product(*(choice.values for choice in self.choices)):
            yield dict(zip(names, values, strict=True))

    def read(self, words: Mapping[str, str]) -> dict[str, Value]:
        """Return those of the words that are parameters of this recipe with a value it may take."""
        return {
            choice.name: value
            for choice in self.choices
            for value in choice.values
            if words.get(choice.name, "").lower() == str(value).lower()
        }

    def fits(self, parameters: Parameters) -> bool:
        """Say whether these are parameters of this recipe, each with a value it may take."""
        allowed = {choice.name: choice.values for choice in self.choices}
        return set(parameters) == set(allowed) and all(
            value in allowed[name] for name, value in parameters.items()
        )


def recipes_of(
    family: str, machine: tuple[str, ...], languages: Iterable[Language] = (Language.CPP,)
) -> tuple[Recipe, ...]:
    """Return the family's recipes that this machine can run, portable ones first.

    Args:
        family: a folder of `agents/recipes/<language>`.
        machine: the extensions and the architecture; decides which recipes and widths are offered.
        languages: in order of preference; those without recipes are passed over.

    Raises:
        NothingFits: the family has no recipe.
    """
    widest = next(width for name, width in _WIDTHS if not name or name in machine)
    spoken = [language for language in languages if language in _ENTRIES]
    found = [
        _narrowed(recipe, widest) if recipe.language is Language.CPP else recipe
        for language in spoken
        for recipe in _read(language, family)
        if set(recipe.needs) <= set(machine)
    ]
    if not found:
        folders = " or ".join(f"agents/{_ROOT}/{language.value}/{family}" for language in spoken)
        raise NothingFits(
            f"family {family!r} has no recipe for {' '.join(machine) or 'this machine'}; add one "
            f"to recipes.yaml in {folders or 'a language of the target'}"
        )
    return tuple(sorted(found, key=lambda recipe: not recipe.is_portable))


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
def _read(language: Language, family: str) -> tuple[Recipe, ...]:
    table = _folder(language, family) / "recipes.yaml"
    if not table.is_file():
        return ()
    return tuple(
        Recipe.model_validate({"family": family, "language": language, **entry})
        for entry in yaml.safe_load(table.read_text(encoding="utf-8"))
    )


def notes_of(family: str, language: Language = Language.CPP) -> str:
    """Return what is known of the family, Markdown."""
    return (_folder(language, family) / "notes.md").read_text(encoding="utf-8")


def notes_path(family: str, language: Language = Language.CPP) -> str:
    """Return where the notes lie inside the package."""
    return f"agents/{_ROOT}/{language.value}/{family}/notes.md"


def _folder(language: Language, family: str) -> Traversable:
    return files("agents").joinpath(_ROOT, language.value, family)


@cache
def _environment(language: Language) -> Environment:
    return Environment(  # noqa: S701 - C++ text and plans; there is nothing to escape
        loader=PackageLoader("agents", f"{_ROOT}/{language.value}"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def render(recipe: Recipe, match: Match, parameters: Parameters) -> Candidate:
    """Return the candidate that a recipe makes of a problem with these parameters."""
    templates = _environment(recipe.language)
    values = {**match.binding, **parameters}
    text = templates.get_template(recipe.template).render(values)
    plans = templates.get_template(recipe.plan).render(values) if recipe.plan else "[]"
    return Candidate(
        language=recipe.language,
        sources=(Source(path=recipe.entry, text=text),),
        flags=recipe.flags,
        plans=_PLANS.validate_json(plans),
    )
