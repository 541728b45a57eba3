"""What a terminal shows while pictures are made."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from argus.client import Event, Image, Queued, Started, Step, Warning


class Bars:
    """A bar for each picture in the making, on stderr; silent where that is not a terminal.

    May be called from several threads.
    """

    def __init__(self) -> None:
        console = Console(stderr=True, soft_wrap=True)
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}{task.fields[lanes]}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, request_id: str) -> None:
        """Show a request that is about to be sent."""
        self._bars[request_id] = self._progress.add_task("waiting", total=1, lanes="")

    def show(self, event: Event) -> None:
        """Show what happened to a request that has begun."""
        bar, progress = self._bars[event.request_id], self._progress
        match event:
            case Queued():
                progress.update(bar, description=f"queued behind {event.ahead}", lanes="")
            case Started():
                what = f"{event.level} on {event.node}"
                progress.update(bar, description=what, lanes="", total=event.steps, completed=0)
            case Step():
                lanes = f", {event.lanes} lanes" if event.lanes else ""
                progress.update(bar, completed=event.step, total=event.steps, lanes=lanes)
            case Warning():
                print(f"argus: warning: {event.message} ({event.code})", file=sys.stderr)
            case Image():
                progress.remove_task(bar)

    def print(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, highlight=False, markup=False)
