"""A process that scores pairs of pictures for a coordinator, so that the coordinator need not.

python -m argus.quality.judge --scorer NAME [--clip FOLDER]

First it says on stdout, as a line of JSON, who scores. Then it reads from stdin, for each pair, a
line {"prompt", "made", "reference"}, the last two in bytes, and those bytes, two encoded
pictures; it answers {"made": {column: value}, "reference": …} with null where a score is not
defined, or {"error"}. It ends with its stdin.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from argus.errors import ArgusError
from argus.priority import give_way
from argus.quality.scorers import Judged, Scorer, names, open_scorers
from argus.quality.scorers.base import Pixels

NICE = 10
"""Live requests come first on the coordinator's machine, too."""


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scorer", required=True, choices=names())
    parser.add_argument("--clip", type=Path)
    arguments = parser.parse_args()
    give_way(NICE)
    answers = sys.stdout
    # Whatever a library prints must not be taken for an answer.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            (scorer,) = open_scorers((arguments.scorer,), arguments.clip)
        except ArgusError as error:
            _say(answers, {"error": str(error)})
            sys.exit(1)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        _say(
            answers,
            {"name": scorer.name, "version": scorer.version, "columns": list(scorer.columns)},
        )
        serve(scorer, sys.stdin.buffer, answers)


def serve(scorer: Scorer, questions: IO[bytes], answers: IO[str]) -> None:
    """Answer until there are no more questions."""
    while line := questions.readline():
        question = json.loads(line)
        made = questions.read(question["made"])
        reference = questions.read(question["reference"])
        try:
            answer: dict[str, Any] = _judge(scorer, question["prompt"], made, reference)
        # A pair that cannot be scored must not cost the next one its judge.
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(answers, answer)


def _judge(scorer: Scorer, prompt: str, made: bytes, reference: bytes) -> dict[str, Any]:
    pictures = _pixels(made), _pixels(reference)
    pair = (Judged(prompt, pictures[0], pictures[1]), Judged(prompt, pictures[1]))
    columns = scorer.score(pair)
    return {
        name: {column: _defined(values[i]) for column, values in columns.items()}
        for i, name in enumerate(("made", "reference"))
    }


def _pixels(data: bytes) -> Pixels:
    import PIL.Image

    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _say(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
