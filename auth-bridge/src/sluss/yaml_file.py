"""YAML files that administrators write: read, and checked against a type. Every error is one line with file and key."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml
from msgspec import Struct, ValidationError, convert

from sluss.domain.errors import ConfigError

T = TypeVar("T", bound="Section")


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping in a file, with these keys and no others."""


class _Loader(yaml.SafeLoader):
    """Plain YAML, without the trap that of two equal keys the last one counts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """What PyYAML calls for each mapping."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"“{key.value}” is there twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a file of `what`, such as settings. Raises `ConfigError`; a file that is not there too."""
    try:
        raw = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date such as 2026-13-45
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}:{line} not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of {what}")
    return raw


def typed(path: Path, raw: object, kind: type[T], *, what: str = "setting", under: str = "") -> T:
    """`raw` as a `kind`. Raises `ConfigError`, which names the key; `under` is that of `raw` itself."""
    try:
        return convert(raw, kind, dec_hook=_custom)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_say(str(error), kind, what, under)}") from None


def _custom(kind: type, value: object) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - the one error that msgspec adds the key to
    return kind(value)


def _choices(kind: Any, keys: list[str]) -> list[str]:
    """The words that may be written there, if only some may."""
    for key in keys:
        kind = next((hints[key] for k in get_args(kind) or [kind] if key in (hints := _hints(k))), None)
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return list(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else []


def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind) if isinstance(kind, type) and issubclass(kind, Struct) else {}


def _say(message: str, kind: type[Section], what: str, under: str) -> str:
    """Put the key first in what msgspec says, and name the values that there are."""
    said, _, where = message.partition(" - at `$")
    keys = where.rstrip("`").strip(".").split(".") if where else []
    if found := re.fullmatch(r"Object (missing required|contains unknown) field `(.*)`", said):
        keys.append(found[2])
        said = "is missing" if found[1] == "missing required" else f"is not a {what}"
    elif choices := _choices(kind, keys):
        said = f"must be {' or '.join(choices)}"
    return f"{'.'.join([*([under] if under else []), *keys])}: {said}"
