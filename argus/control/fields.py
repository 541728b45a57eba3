"""JSON read field by field: what is wrong is named with its source and its path."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from argus.errors import ConfigError


class Fields:
    """One JSON object whose fields are checked as they are read.

    Every method raises ConfigError where the field is missing or of another kind.

    Args:
        source: what to call the file in messages.
        path: where the object is in it; empty: at the top.
        data: the object.
        known: its fields; others are refused.
    """

    def __init__(self, source: str, path: str, data: Any, known: Sequence[str]) -> None:
        self._source = source
        self._path = path
        if not isinstance(data, dict):
            raise ConfigError(f"{source}: {path or 'the file'}: an object is needed")
        self._data = data
        for name in data:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ConfigError(f"{self.at(name)}: unknown field{hint}")

    def at(self, name: str) -> str:
        """Return a field as messages name it."""
        return f"{self._source}: {self._inner(name)}"

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self._data

    def value(self, name: str) -> Any:
        """Return whatever the field holds."""
        if name not in self._data:
            raise ConfigError(f"{self.at(name)}: missing")
        return self._data[name]

    def text(self, name: str) -> str:
        """Return a text that is not empty."""
        value = self.value(name)
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{self.at(name)}: text is needed, not {value!r}")
        return value

    def number(self, name: str, most: float = math.inf) -> float:
        """Return a finite number above 0 and at most `most`."""
        return _number(self.at(name), self.value(name), most)

    def number_or_0(self, name: str) -> float:
        """Return a finite number of at least 0; 0 where the field is missing."""
        value = self._data.get(name, 0)
        return 0.0 if value == 0 and not isinstance(value, bool) else self.number(name)

    def whole(self, name: str, least: int = 1) -> int:
        """Return a whole number of at least `least`."""
        return _whole(self.at(name), self.value(name), least)

    def whole_or_none(self, name: str, least: int = 0) -> int | None:
        """Return a whole number of at least `least`, or None for null."""
        return None if self.value(name) is None else self.whole(name, least)

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise ConfigError(f"{self.at(name)}: must be true or false, not {value!r}")
        return value

    def items(self, name: str) -> list[Any]:
        """Return a list with at least one entry."""
        value = self.value(name)
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{self.at(name)}: a list with at least one entry is needed")
        return value

    def wholes(self, name: str) -> tuple[int, ...]:
        """Return a list of whole numbers of at least 1."""
        return tuple(
            _whole(f"{self.at(name)}[{i}]", value, 1) for i, value in enumerate(self.items(name))
        )

    def wholes_or_none(self, name: str) -> tuple[int | None, ...]:
        """Return a list of whole numbers of at least 0, with None for null."""
        return tuple(
            None if value is None else _whole(f"{self.at(name)}[{i}]", value, 0)
            for i, value in enumerate(self.items(name))
        )

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a list of finite numbers above 0."""
        return tuple(
            _number(f"{self.at(name)}[{i}]", value) for i, value in enumerate(self.items(name))
        )

    def inner(self, name: str, known: Sequence[str]) -> Fields:
        """Return the object that a field holds."""
        return Fields(self._source, self._inner(name), self.value(name), known)

    def inners(self, name: str, known: Sequence[str]) -> list[Fields]:
        """Return the objects in the list that a field holds, at least one."""
        return [
            Fields(self._source, f"{self._inner(name)}[{i}]", data, known)
            for i, data in enumerate(self.items(name))
        ]

    def texts(self, name: str) -> dict[str, str]:
        """Return an object that holds only texts, by their names."""
        fields, names = self._open(name)
        return {n: fields.text(n) for n in names}

    def named_numbers(self, name: str) -> dict[str, float]:
        """Return an object that holds only numbers above 0, by their names."""
        fields, names = self._open(name)
        return {n: fields.number(n) for n in names}

    def _open(self, name: str) -> tuple[Fields, list[str]]:
        """Return the object that a field holds, whatever its names, and those."""
        value = self.value(name)
        names = list(value) if isinstance(value, dict) else []
        return self.inner(name, names), names

    def _inner(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def _whole(where: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: must be a whole number of at least {least}, not {value!r}")
    return value


def _number(where: str, value: Any, most: float = math.inf) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= min(most, sys.float_info.max):
        limit = "" if math.isinf(most) else f", at most {most:g}"
        raise ConfigError(f"{where}: must be above 0{limit}, not {value!r}")
    return float(value)
