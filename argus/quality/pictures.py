"""The working folder of a profile: what was made so far, so that a run can go on where it ended.

settings.json           what the pictures depend on; a run with others is refused
made.jsonl              one line a picture, appended when its file is there
pictures/LEVEL/ID.REPEAT.png
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argus.client import ImageResult
from argus.errors import ConfigError, FailedPreconditionError

Key = tuple[str, int, str]
"""Prompt id, repeat, level."""


@dataclass(frozen=True, slots=True)
class Made:
    """One picture that was made.

    Attributes:
        prompt_id, repeat, level: what was asked for.
        seed: of its noise.
        made_level: what it was made at; another level where the state to start from was missing.
        steps: of the whole schedule, those skipped included.
        skipped: steps that a cached state stood for.
        similarity: of the prompt to the one whose state that was; 0 where none was.
        node: that made it.
    """

    prompt_id: str
    repeat: int
    level: str
    seed: int
    made_level: str
    steps: int
    skipped: int
    similarity: float
    node: str

    @property
    def key(self) -> Key:
        """What it is of."""
        return self.prompt_id, self.repeat, self.level


def picture_file(folder: Path, key: Key) -> Path:
    """Return where a picture lies in a work folder."""
    prompt, repeat, level = key
    return folder / "pictures" / level / f"{prompt}.{repeat}.png"


def read_pixels(folder: Path, key: Key) -> NDArray[np.uint8]:
    """Return a picture of a work folder, (height, width, 3)."""
    import PIL.Image

    with PIL.Image.open(picture_file(folder, key)) as picture:
        return np.asarray(picture.convert("RGB"))


class WorkFolder:
    """Pictures on disk, with what is known of each.

    Args:
        path: of the folder; made where it does not exist.
        settings: what pictures depend on, as JSON values.

    Raises:
        FailedPreconditionError: the folder holds pictures made with other settings; names the
            first that differs.
        ConfigError: a file in it cannot be read.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._made: dict[Key, Made] = {}
        path.mkdir(parents=True, exist_ok=True)
        self._check_settings(settings)
        self._read()
        self._log = (path / "made.jsonl").open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the list of what was made."""
        self._log.close()

    def __contains__(self, key: Key) -> bool:
        return key in self._made

    def __len__(self) -> int:
        return len(self._made)

    def __iter__(self) -> Iterator[Made]:
        return iter(self._made.values())

    def __getitem__(self, key: Key) -> Made:
        return self._made[key]

    def file(self, key: Key) -> Path:
        """Return where the picture lies."""
        return picture_file(self.path, key)

    def add(self, key: Key, result: ImageResult) -> None:
        """Keep a picture; it counts as made when its line is written."""
        # A state was continued exactly where the answer says how near its prompt was.
        skipped = result.skipped_steps if result.similarity else 0
        file = self.file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        result.save(file)
        made = Made(
            *key,
            seed=result.seed,
            made_level=result.level,
            steps=result.steps + skipped,
            skipped=skipped,
            similarity=result.similarity,
            node=result.node,
        )
        self._log.write(json.dumps(dataclasses.asdict(made)) + "\n")
        self._log.flush()
        self._made[key] = made

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        file = self.path / "settings.json"
        wanted = json.loads(json.dumps(settings))
        if not file.is_file():
            file.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
            return
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{file}: not JSON: {error}") from error
        for name in sorted({*wanted, *found}):
            if wanted.get(name) != found.get(name):
                raise FailedPreconditionError(
                    f"{self.path} holds pictures made with another {name}; name another folder, "
                    "or delete this one"
                )

    def _read(self) -> None:
        file = self.path / "made.jsonl"
        if not file.is_file():
            return
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                made = Made(**json.loads(line))
            except (ValueError, TypeError) as error:
                # Only the last line can be cut short, by the end of the process that wrote it.
                raise ConfigError(f"{file}: line {number}: {error}") from error
            if self.file(made.key).is_file():
                self._made[made.key] = made
