"""Settings from the command line that change a stage.

Examples are ``batch_size=64``, ``hard_view.blur=0.1``, ``frozen=backbone.*,fc.*`` and ``v98.learning_rate=0.05``.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from typing import Any, get_args, get_origin, get_type_hints

from ..errors import InputError
from .stages import STAGES, Stage

_FIXED = ("name", "start", "resume")


def _parsed(text: str, hint: Any, name: str) -> Any:
    """Convert the text into a value of the field's type. A list of texts is written with commas; ``none`` is the empty list."""
    if get_args(hint) == (str, ...):
        parts = [part.strip() for part in text.split(",")]
        if text.lower() == "none" or not text:
            return ()
        if not all(parts) or any(mark in text for mark in "()\"'"):
            raise InputError(f"{name} is {text!r}; expected names with commas between them, or none")
        return tuple(parts)
    choices = [value for value in get_args(hint) if isinstance(value, str)]
    if choices or hint is str:
        if choices and text not in choices:
            raise InputError(f"{name} is {text!r}; choose one of {', '.join(choices)}")
        return text
    lowered = {"true": "True", "false": "False", "none": "None"}.get(text.lower(), text)
    try:
        value = ast.literal_eval(lowered)
    except (ValueError, SyntaxError) as error:
        raise InputError(f"{name} is {text!r}; expected {_words(hint)}") from error
    if hint is float and type(value) is int:
        value = float(value)
    if not _fits(value, hint):
        raise InputError(f"{name} is {text!r}; expected {_words(hint)}")
    return value


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if get_args(hint):  # a union such as `int | None`
        return any(_fits(value, part) for part in get_args(hint))
    return type(value) is hint or (hint is float and type(value) is int)


def _words(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if not get_args(hint) else str(hint)


def _set(settings: Any, path: list[str], text: str, name: str) -> Any:
    hints = get_type_hints(type(settings))
    field = path[0]
    if field not in hints or field in _FIXED:
        known = ", ".join(key for key in hints if key not in _FIXED)
        raise InputError(f"there is no setting {name!r}; choose from {known}")
    inner = getattr(settings, field)
    if dataclasses.is_dataclass(inner):
        if len(path) == 1:
            raise InputError(f"{name} has parts; set one of them, such as {name}.{dataclasses.fields(inner)[0].name}=…")
        value = _set(inner, path[1:], text, name)
    elif len(path) > 1:
        raise InputError(f"{field} of this stage has no parts, so {name!r} cannot be set")
    else:
        value = _parsed(text, hints[field], name)
    return dataclasses.replace(settings, **{field: value})


def override(stage: Stage, settings: Sequence[str]) -> Stage:
    """Return a copy of the stage with some settings changed.

    Args:
        stage: the stage to change.
        settings: texts such as ``batch_size=64``. A setting may begin with the name of a stage, as in
            ``v98.batch_size=64``; it is ignored if that is the name of another stage.

    Raises:
        InputError: there is no such setting, or the value has the wrong type.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        path = name.strip().split(".")
        if not equals or not path[0]:
            raise InputError(f"a setting is {setting!r}; expected NAME=VALUE, such as batch_size=64")
        if path[0] in STAGES:
            if path[0] != stage.name:
                continue
            path = path[1:]
        stage = _set(stage, path, text.strip(), ".".join(path))
    return stage
