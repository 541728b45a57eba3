"""The process that scores pictures, as the coordinator sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from argus.errors import InternalError, UnavailableError
from argus.quality.matrix import ScorerVersion

log = logging.getLogger(__name__)

# -P: the current folder must not become importable in the child.
COMMAND = (sys.executable, "-P", "-m", "argus.quality.judge")
OPEN_S = 300.0
ANSWER_S = 60.0
"""A pair that takes longer costs the process its life; the next pair gets another."""

Columns = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a judge says of a pair, by column; None where a score is not defined."""

    made: Columns
    reference: Columns


class Judge:
    """Scores one pair at a time in a process of its own, which ends with this one.

    Args:
        scorer: its name.
        clip: folder of the CLIP model; empty: the bundled one.
    """

    def __init__(self, scorer: str, clip: str = "") -> None:
        self._arguments = ("--scorer", scorer, *(("--clip", clip) if clip else ()))
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._who: ScorerVersion | None = None

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def open(self) -> ScorerVersion:
        """Start the process if it does not run, and return who scores.

        Raises:
            UnavailableError: it does not start; says why.
        """
        async with self._turn:
            return await self._open()

    async def score(self, prompt: str, made: bytes, reference: bytes) -> Scores:
        """Return the scores of a picture and of the reference level's, both encoded.

        Raises:
            UnavailableError: the process does not start, or ended.
            InternalError: it cannot score this pair.
        """
        question = {"prompt": prompt, "made": len(made), "reference": len(reference)}
        async with self._turn:
            await self._open()
            data = json.dumps(question).encode() + b"\n" + made + reference
            answer = await self._ask(data, ANSWER_S)
        if "error" in answer:
            raise InternalError(f"a pair of pictures was not scored: {answer['error']}")
        return Scores(answer["made"], answer["reference"])

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _open(self) -> ScorerVersion:
        if self.pid is not None and self._who:
            return self._who
        await self.close()
        self._process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *self._arguments),
            stdin=PIPE,
            stdout=PIPE,
            # Ctrl-C at the terminal is for the parent, which then ends it.
            start_new_session=True,
        )
        said = await self._ask(b"", OPEN_S)
        if "error" in said:
            await self.close()
            raise UnavailableError(f"no pictures are scored: {said['error']}")
        self._who = ScorerVersion(said["name"], said["version"], tuple(said["columns"]))
        log.info("pictures are scored by %s %s", self._who.name, self._who.version)
        return self._who

    async def _ask(self, data: bytes, limit_s: float) -> dict[str, Any]:
        """Send something and return the next line that is said."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise UnavailableError("what scores pictures does not run")
        try:
            async with asyncio.timeout(limit_s):
                if data:
                    process.stdin.write(data)
                    await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError:
            await self.close()
            raise UnavailableError(f"pictures were not scored within {limit_s:g} s") from None
        except (BrokenPipeError, ConnectionResetError) as error:
            await self.close()
            raise UnavailableError(f"what scores pictures has ended: {error}") from error
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next question.
            await self.close()
            raise
        if not line:
            await self.close()
            raise UnavailableError("what scores pictures has ended")
        answer = json.loads(line)
        return dict(answer)
