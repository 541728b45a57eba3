"""Plots of the judged runs: violations and quality over load, and over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from control_cells import BINS, Row, mean_and_half
from control_judged import LOADS, SHAPES, of_cell

mpl.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the back end is chosen before)

_COLOURS = dict(
    zip(
        (
            "argus",
            "argus-paper",
            "pac",
            "proteus",
            "sommelier",
            "diffserve",
            "nirvana",
            "clipper-ha",
            "clipper-ht",
        ),
        ("black", *(f"C{i}" for i in range(8))),
        strict=True,
    )
)


def over_load(rows: Sequence[Row], path: Path) -> None:
    """Draw violations and quality over load, a column for each trace."""
    figure, axes = plt.subplots(
        2, len(SHAPES), figsize=(16, 7), sharex=True, sharey="row", layout="constrained"
    )
    for column, shape in enumerate(SHAPES):
        top, bottom = axes[0][column], axes[1][column]
        for label, colour in _COLOURS.items():
            cells = [of_cell(rows, label, shape, load) for load in LOADS]
            width = 2.2 if label == "argus" else 1.1
            for axis, values in (
                (top, [mean_and_half(100 * r.violations for r in cell) for cell in cells]),
                (bottom, [mean_and_half(100 * r.quality for r in cell) for cell in cells]),
            ):
                means, halves = zip(*values, strict=True)
                axis.errorbar(
                    LOADS, means, halves, label=label, color=colour, linewidth=width, capsize=2
                )
        bounds = [
            mean_and_half(100 * r.bound for r in of_cell(rows, "argus", shape, load))[0]
            for load in LOADS
        ]
        bottom.plot(LOADS, bounds, color="grey", linestyle="--", label="bound")
        top.set_title(shape)
        bottom.set_xlabel("load, of unapproximated capacity")
    axes[0][0].set_ylabel("violations %")
    axes[1][0].set_ylabel("quality of all %")
    axes[1][0].set_ylim(50, 100.5)
    _legend(figure, axes[1][-1])
    _save(figure, path)


def over_time(rows: Sequence[Row], path: Path, load: float = 1.0) -> None:
    """Draw one trace of each shape that moves: demand, violations and quality over time."""
    shapes = [shape for shape in SHAPES if shape != "poisson"]
    figure, axes = plt.subplots(
        3, len(shapes), figsize=(16, 8), sharex="col", sharey="row", layout="constrained"
    )
    for column, shape in enumerate(shapes):
        for label, colour in _COLOURS.items():
            row = next((r for r in of_cell(rows, label, shape, load) if r.curve), None)
            if row is None:
                continue
            minutes = [(i + 0.5) * row.scenario.seconds / BINS / 60 for i in range(BINS)]
            rate, violations, quality = zip(*row.curve, strict=True)
            width = 2.0 if label == "argus" else 0.9
            if label == "argus":
                axes[0][column].plot(minutes, [60 * x for x in rate], color="grey")
            axes[1][column].plot(
                minutes, [100 * x for x in violations], color=colour, linewidth=width, label=label
            )
            axes[2][column].plot(minutes, [100 * x for x in quality], color=colour, linewidth=width)
        axes[0][column].set_title(f"{shape}, load {load:g}")
        axes[2][column].set_xlabel("minutes")
    for axis, text in zip(
        axes[:, 0], ("arrivals a minute", "violations %", "quality of all %"), strict=True
    ):
        axis.set_ylabel(text)
    _legend(figure, axes[1][-1])
    _save(figure, path)


def _legend(figure: plt.Figure, axis: plt.Axes) -> None:
    """Name the lines below all panels, where they hide nothing."""
    lines, names = axis.get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(names), fontsize=8)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
