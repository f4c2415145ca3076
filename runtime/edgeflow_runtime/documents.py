"""Settings as frozen dataclasses that read and write plain documents strictly."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from typing import Any

from edgeflow_runtime.errors import ConfigError
from edgeflow_runtime.printable import printable, quoted

if typing.TYPE_CHECKING:
    from typing_extensions import Self


def parsed(text: str | bytes) -> Any:  # noqa: ANN401
    """What a text says in JSON.

    Raises:
        ConfigError: it is no JSON, or is nested deeper than it can be read.

    Example:
        >>> parsed('{"hop": 4}')
        {'hop': 4}
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"it is not JSON: {error}") from error


LARGEST = (1 << 63) - 1
"""Of whole numbers: other programs and NumPy hold no larger ones."""


class Document:
    """Base of frozen dataclasses that travel as JSON objects.

    ``from_dict`` refuses unknown keys, missing keys and values of the wrong type, each by name: a
    document is either understood whole or not used.
    """

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON-ready dictionary, in the order of the fields."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }

    @classmethod
    def from_dict(cls, document: object) -> Self:
        """Read the settings back from ``document``.

        Raises:
            ConfigError: ``document`` is no object, or a key is unknown, missing or of another type.
        """
        name = cls.__name__
        if not isinstance(document, dict):
            raise ConfigError(f"{name}: expected an object, found {type(document).__name__}")
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in document:
            if key not in fields:
                raise ConfigError(f"{name}: unknown key {quoted(key)}")
        values = {}
        for key, field in fields.items():
            if key in document:
                values[key] = _typed(f"{name}.{key}", document[key], hints[key])
            elif _is_required(field):
                raise ConfigError(f"{name}: missing key {key!r}")
        return cls(**values)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Document):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _typed(where: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    """``value`` as ``hint`` says, converting only what JSON cannot tell apart."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # of one type and None
        wanted = next(option for option in arguments if option is not type(None))
        return None if value is None else _typed(where, value, wanted)
    if isinstance(hint, type) and issubclass(hint, Document):
        return hint.from_dict(value)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(where, item, arguments[0]) for item in value)
    if origin is dict and isinstance(value, dict):
        return {
            key: _typed(f"{where}.{printable(str(key)[:80])}", item, arguments[1])
            for key, item in value.items()
        }
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(where, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, found {value!r}")
    plain = origin or hint
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        expected = getattr(plain, "__name__", str(plain))
        raise ConfigError(f"{where}: expected {expected}, found {quoted(value)}")
    if plain is int and not -LARGEST <= value <= LARGEST:
        raise ConfigError(f"{where}: expected a whole number of 64 bits, found {quoted(value)}")
    return value


def _float(where: str, value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ConfigError(f"{where}: expected a finite number, found one beyond 1e308") from None
