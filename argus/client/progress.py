"""A bar for a map over many prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager

from argus.client.result import Failure, ImageResult

Advance = Callable[[ImageResult | Failure], None]


@contextmanager
def progress_bar(prompts: Iterable[str], shown: bool) -> Iterator[Advance]:
    """Show a bar on stderr inside the block, if that is a terminal; yields what moves it on.

    What it yields may be called from several threads.

    Args:
        prompts: their number is the bar's length, if it can be known.
        shown: whether a bar is wanted at all.
    """
    if not shown:
        yield lambda result: None
        return
    # Costs more to import than the rest of the SDK.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    failed = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        total = len(prompts) if isinstance(prompts, Sized) else None
        bar = progress.add_task("images", total=total)

        def advance(result: ImageResult | Failure) -> None:
            nonlocal failed
            failed += isinstance(result, Failure)
            words = f"images, {failed} failed" if failed else "images"
            progress.update(bar, advance=1, description=words)

        yield advance
