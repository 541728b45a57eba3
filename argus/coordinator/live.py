"""What a coordinator keeps of live comparisons: rows for fitting, and the state of the watch."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from argus.config import QualityConfig
from argus.control.coverage import COVERAGE
from argus.control.drift import Drift
from argus.control.learned.fitted import FittedPredictor
from argus.control.levels import Ladder
from argus.control.predictor import QualityPredictor
from argus.control.widened import Widened
from argus.errors import InvalidArgumentError
from argus.quality.live import Comparison, LiveFolder
from argus.quality.matrix import Header, ScorerVersion

log = logging.getLogger(__name__)

STATE = "drift.json"


class LiveLog:
    """A folder of comparisons. Must be used inside one event loop, which it never blocks.

    Args:
        folder: where; made where it does not exist.
        most_rows: rows kept.
        source: what pictures are judged by and predicted with; another source's state of the
            watch is not taken up.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, folder: Path, most_rows: int, source: str) -> None:
        self._folder = folder
        self._rows = LiveFolder(folder, most_rows)
        self._source = source
        self._turn = asyncio.Lock()

    def resume(self, drift: Drift) -> None:
        """Let a watch go on where it ended when the process did."""
        file = self._folder / STATE
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            if data["source"] == self._source:
                drift.restore(data["drift"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, InvalidArgumentError) as error:
            log.warning("the watch of live pictures begins anew: %s: %r", file, error)

    async def append(
        self, ladder: Ladder, scorer: ScorerVersion, row: Comparison, drift: Drift
    ) -> None:
        """Keep a comparison and the state of the watch; a disk that is full costs only these."""
        header = Header(ladder.all, (scorer,), scorer.columns[0], "", {"source": self._source})
        state = json.dumps({"source": self._source, "drift": drift.state()})
        async with self._turn:
            try:
                await asyncio.to_thread(self._write, header, row, state)
            except OSError as error:
                log.warning("a comparison was not kept: %s", error)

    def _write(self, header: Header, row: Comparison, state: str) -> None:
        self._rows.append(header, row)
        file = self._folder / STATE
        fresh = file.with_suffix(".new")
        fresh.write_text(state, encoding="utf-8")
        os.replace(fresh, file)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of live pictures, and where it is kept; nowhere without a folder."""

    drift: Drift
    live: LiveLog | None = None


def open_watch(config: QualityConfig, predictor: QualityPredictor) -> Watch:
    """Return the watch that the settings describe, where it ended if its folder says so.

    Raises:
        ConfigError: the folder cannot be made.
    """
    fitted = predictor if isinstance(predictor, FittedPredictor) else None
    drift = Drift(coverage=fitted.coverage if fitted else COVERAGE)
    if not config.live_folder:
        return Watch(drift)
    judged_by = f"{config.scorer} {config.clip}".strip()
    source = f"{judged_by}; {f'fitted to {fitted.profile}' if fitted else 'means of levels'}"
    live = LiveLog(Path(config.live_folder), config.live_rows, source)
    live.resume(drift)
    return Watch(drift, live)


def watched(predictor: QualityPredictor, watch: Watch) -> QualityPredictor:
    """Return a predictor whose lower bounds, if it was fitted, the watch widens."""
    if not isinstance(predictor, FittedPredictor):
        return predictor
    return Widened(predictor, lambda: watch.drift.margin)
