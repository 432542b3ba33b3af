"""What is wrong with a settings document, in the words of somebody who writes one.

pydantic knows what it refused; this module says it in one line: the key, what was found, what is allowed, and
which key or value was probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "path_type": "a path",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a section of keys",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "invalid_key": "a text as key",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "string_too_long": "at most {max_length} letters",
    "literal_error": "{expected}",
}
_LONGEST = 60


@dataclass(frozen=True)
class Problem:
    """The first thing wrong with a document.

    Attributes:
        path: The key, section by section; empty for the whole document.
        text: What was found and what is allowed.
    """

    path: tuple[str, ...]
    text: str


def first_problem(error: ValidationError, model: type[BaseModel]) -> Problem:
    """Tell the most telling of pydantic's complaints: a mistyped key before whatever follows from it.

    Args:
        error: What pydantic raised.
        model: The model that was to be built.

    Returns:
        The problem, with the number of further ones in its text.
    """
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    path, models, field = _locate(model, details[0]["loc"])
    problem = _told(details[0], path, models, field)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return Problem(problem.path, problem.text + more)


def coerced(document: Any, accepted: Any, path: tuple[str, ...] = ()) -> Problem | None:
    """Find a value that pydantic bent into shape: `"4"` or `true` for a number.

    Args:
        document: What was written.
        accepted: The model built from it, dumped in JSON mode.
        path: Where both lie.

    Returns:
        The first such value, or None.
    """
    if isinstance(document, Mapping) and isinstance(accepted, Mapping):
        pairs = ((str(key), value, accepted.get(key)) for key, value in document.items())
        return _first(coerced(value, taken, (*path, key)) for key, value, taken in pairs)
    if isinstance(document, list) and isinstance(accepted, list):
        both = enumerate(zip(document, accepted, strict=False))
        return _first(coerced(value, taken, (*path, str(index))) for index, (value, taken) in both)
    if _kind(document) == _kind(accepted):
        return None
    return Problem(path, f"found {spell(document)}, allowed: {_kind(accepted)}")


def spell(value: Any) -> str:
    """Show a value as YAML would have it, cut to a readable length.

    Args:
        value: Any plain value.

    Returns:
        One line.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {spell(inside)}" for key, inside in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(spell, value)) + "]"
    elif isinstance(value, int | float | str):
        text = repr(value)
    else:
        text = "nothing" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _told(
    detail: ErrorDetails, path: tuple[str, ...], models: list[type[BaseModel]], field: FieldInfo | None
) -> Problem:
    found, context = spell(detail["input"]), _plain(detail.get("ctx", {}))
    match detail["type"]:
        case "extra_forbidden":
            known = sorted({name for known_model in models for name in known_model.model_fields})
            return Problem(path, f"unknown key{_meant(path[-1], known)}, allowed: {', '.join(known)}")
        case "missing":
            return Problem(path, f"this key is missing, allowed: {_about(field)}")
        case "union_tag_not_found":
            return Problem((*path, "type"), f"this key is missing, allowed: {_tags(models)}")
        case "union_tag_invalid":
            tags = _tags(models)
            hint = _meant(str(context["tag"]), tags.split(", "))
            return Problem((*path, "type"), f"found {context['tag']!r}{hint}, allowed: {tags}")
        case "literal_error":
            words = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
            hint = _meant(str(detail["input"]), words)
            return Problem(path, f"found {found}{hint}, allowed: {context['expected']}")
        case "value_error":
            return Problem(path, f"found {found}: {context['error']}")
        case "string_pattern_mismatch":
            return Problem(path, f"found {found}, allowed: {_about(field)}")
        case other:
            allowed = _EXPECTED.get(other, detail["msg"].removeprefix("Input should be "))
            return Problem(path, f"found {found}, allowed: {allowed.format(**context)}")


def _locate(
    model: type[BaseModel], location: Iterable[int | str]
) -> tuple[tuple[str, ...], list[type[BaseModel]], FieldInfo | None]:
    # The path as it is written, the models that hold or fill the key, and its field.
    path: list[str] = []
    models, field = [model], None
    for part in location:
        tagged = [choice for choice in models if _tag(choice) == part] if len(models) > 1 else []
        if tagged:
            models = tagged  # pydantic names the branch of a union; the document does not
            continue
        path.append(str(part))
        field = next((one.model_fields[str(part)] for one in models if str(part) in one.model_fields), None)
        if field is not None:
            models = _models_in(field.annotation)
    return tuple(path), models, field


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inside in get_args(annotation) for found in _models_in(inside)]


def _tag(model: type[BaseModel]) -> Any:
    return model.model_fields["type"].default if "type" in model.model_fields else None


def _tags(models: list[type[BaseModel]]) -> str:
    return ", ".join(str(_tag(model)) for model in models)


def _about(field: FieldInfo | None) -> str:
    words = ((field and field.description) or "a value").replace("\n", " ").split(". ")[0].rstrip(".")
    return words if words[:2].isupper() else words[:1].lower() + words[1:]


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _plain(context: Mapping[str, Any]) -> dict[str, Any]:
    # pydantic turns the bound 0 of a float into 0.0.
    whole = (int, float)
    return {
        key: int(bound) if isinstance(bound, whole) and bound == int(bound) else bound
        for key, bound in context.items()
    }


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case None:
            return "nothing"
        case Mapping():
            return "a section of keys"
        case _:
            return "a list"


def _first(problems: Iterable[Problem | None]) -> Problem | None:
    return next((problem for problem in problems if problem is not None), None)
