"""Says what is wrong with a YAML document in its own terms: file, line, key path, nearest key."""

import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

if typing.TYPE_CHECKING:
    from yaml import SafeLoader
else:  # libyaml reads a target eight times as fast, where PyYAML was built with it
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Loc = tuple[int | str, ...]
_MOST_PROBLEMS = 8
_DEEPEST = 100
"""Collections inside each other; libyaml overflows the stack far beyond."""


class DocumentError(ValueError):
    """The document is not YAML, or not the kind of YAML asked for."""


class _Loader(SafeLoader):
    """SafeLoader that refuses a key given twice: the first one would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - the base class's signature
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise DocumentError(f"line {line}: the key {name!r} is given twice")
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def read_document(path: Path) -> tuple[dict[str, JsonValue], str]:
    """Return a YAML file's mapping and its text.

    Raises:
        DocumentError: it cannot be read, or see `read_yaml`; names the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path} is no text file: {error}") from error
    return read_yaml(path, text), text


def read_yaml(path: Path, text: str) -> dict[str, JsonValue]:
    """Parse a YAML mapping.

    Raises:
        DocumentError: not YAML (with the line), not a mapping, or a key given twice.
    """
    try:
        _refuse_depth(text)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader subclass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise DocumentError(f"{path}{line}: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"{path}: {error}") from error
    except DocumentError as error:
        raise DocumentError(f"{path} {error}") from error
    if not isinstance(value, dict):
        raise DocumentError(f"{path}: expected a mapping of keys, found {type(value).__name__}")
    return value


def _refuse_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            at = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
            raise DocumentError(f"{at}more than {_DEEPEST} collections in each other")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or the known words where none is near."""
    words = sorted(str(one) for one in known)
    found = difflib.get_close_matches(word, words, n=3, cutoff=0.55)
    if found:
        return f"; did you mean {' or '.join(repr(w) for w in found)}?"
    return f"; known: {', '.join(words)}" if words else ""


def explain(error: ValidationError, model: type[BaseModel], text: str, prefix: Loc = ()) -> str:
    """Return one line for each problem of a document, in the order of the document's keys.

    Args:
        error: of validating the document, or the part of it under `prefix`, with `model`.
        model: what the document had to be.
        text: the YAML, for line numbers.
        prefix: key path of the part.
    """
    lines = []
    for problem in error.errors(include_url=False)[:_MOST_PROBLEMS]:
        loc = tuple(problem["loc"])
        place = dotted((*prefix, *loc)) or "document"
        line = line_of(text, (*prefix, *loc))
        message = problem["msg"]
        if problem["type"] == "extra_forbidden":
            message = "unknown key" + nearest(str(loc[-1]), _keys_at(model, loc[:-1]))
        elif problem["type"] == "missing":
            message = "missing"
        elif isinstance(problem["input"], str | int | float | bool):
            message = f"{message} (found {problem['input']!r})"
        lines.append(f"{f'line {line}: ' if line else ''}{place}: {message}")
    return "\n".join(lines)


def dotted(loc: Sequence[int | str]) -> str:
    """Return a key path as users write it: `problem.axes[0].name`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def line_of(text: str, loc: Loc) -> int | None:
    """Return the line of a key path in a YAML text, of the deepest part of it that exists."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=SafeLoader)
    except yaml.YAMLError:
        return None
    line = None
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value}
            if str(part) not in pairs:
                break
            key, node = pairs[str(part)]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _keys_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Return the field names of the model found by walking `loc` from `model`."""
    kind: Any = model
    for part in loc:
        found = _model_in(kind)
        if isinstance(part, str) and found is not None and part in found.model_fields:
            kind = found.model_fields[part].annotation
        elif isinstance(part, str) and get_origin(kind) is dict:
            kind = get_args(kind)[1]
    found = _model_in(kind)
    return list(found.model_fields) if found else []


def _model_in(kind: Any) -> type[BaseModel] | None:
    """Return the model an annotation holds, inside optionals, tuples and dicts."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if get_origin(kind) in {Union, types.UnionType, tuple, list, dict, typing.Annotated}:
        for inner in get_args(kind):
            found = _model_in(inner)
            if found is not None:
                return found
    return None
