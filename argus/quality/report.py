"""A profile as one HTML page, with everything it shows inside."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argus.quality.matrix import ScoreMatrix
from argus.quality.pictures import WorkFolder
from argus.quality.summary import LevelSummary, SeedNoise, by_kind, by_similarity

Cell = str | int | float
SHOWN_A_KIND = 3
STYLE = """
:root { color-scheme: light dark; --line: #8884; --weak: #777; --accent: #2a6fdb; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child, td.text { text-align: left; }
th { vertical-align: bottom; } .wide { overflow-x: auto; } .weak { color: var(--weak); }
.pictures td { padding: .2rem; text-align: center; } .pictures img { width: 64px; display: block;
image-rendering: pixelated; } img.bad { outline: 2px solid #d33; outline-offset: -2px; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; background: #fff; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what follows it, as HTML."""

    title: str
    body: str


def render_report(
    title: str,
    matrix: ScoreMatrix,
    levels: Sequence[LevelSummary],
    noise: SeedNoise | None,
    work: WorkFolder | None,
    more: Sequence[Section] = (),
) -> str:
    """Return the page.

    Args:
        title: its heading.
        matrix: the scores.
        levels: their summary.
        noise: effect of the seed; None where nothing was repeated.
        work: where pictures are; None: none are shown.
        more: sections that follow, such as what a predictor makes of it.
    """
    sections = [
        Section("Levels", _levels(levels)),
        Section("Quality over cost", _plot(levels)),
        Section("The seed", _noise(noise)),
        Section("By kind of prompt", _groups("kind", by_kind(matrix), matrix)),
        Section("By similarity to the nearest cached prompt", _similarity(matrix)),
        *([Section("Pictures", _pictures(matrix, work))] if work else []),
        *more,
        Section("Circumstances", _circumstances(matrix)),
    ]
    body = "".join(f"<h2>{html.escape(s.title)}</h2>{s.body}" for s in sections)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{_introduction(matrix)}{body}</html>\n"
    )


def table(rows: Sequence[Mapping[str, Cell]], css: str = "") -> str:
    """Return rows as an HTML table, the keys of the first one as its head."""
    if not rows:
        return '<p class="weak">none</p>'
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = "".join("<tr>" + "".join(_cell(v) for v in row.values()) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{css}"><tr>{head}</tr>{lines}</table></div>'


def figure(plot: Any) -> str:
    """Return a matplotlib figure as inline SVG, and close it."""
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    plot.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(plot)
    text = buffer.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f'<td class="text">{html.escape(value)}</td>'
    if isinstance(value, int):
        return f"<td>{value:,}</td>"
    return "<td>–</td>" if math.isnan(value) else f"<td>{value:.4g}</td>"


def _introduction(matrix: ScoreMatrix) -> str:
    prompts = matrix.prompts
    splits = {s: prompts.splits.count(s) for s in dict.fromkeys(prompts.splits)}
    parts = ", ".join(f"{n} {name or 'not split'}" for name, n in sorted(splits.items()))
    return (
        f"<p>{len(prompts.ids)} prompts ({html.escape(parts)}), {len(matrix.levels)} levels, "
        f"{len(matrix.rows)} pictures. Quality is the column <code>"
        f"{html.escape(matrix.header.main)}</code> relative to the reference level's picture of "
        "the same prompt from the same noise, clipped nowhere. "
        "Intervals hold 95 % and come from resampling prompts.</p>"
    )


def _levels(levels: Sequence[LevelSummary]) -> str:
    return table(
        [
            {
                "level": level.name,
                "device s": level.cost_s,
                "compute saved %": 100 * (1 - level.cost_s / levels[0].cost_s),
                "quality": level.quality,
                "from": level.low,
                "to": level.high,
                "unharmed": level.unharmed,
                "mean score": level.score,
                "pictures": level.pictures,
                "states missed": level.missed,
                "undefined": level.undefined,
                "Pareto": "yes" if level.efficient else "",
                "against the reference": level.verdict,
            }
            for level in levels
        ]
    )


def _plot(levels: Sequence[LevelSummary]) -> str:
    known = [level for level in levels if not math.isnan(level.cost_s)]
    if not known:
        return '<p class="weak">Costs were not measured.</p>'
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plot, axes = plt.subplots(figsize=(8, 4.2))
    for place, level in enumerate(sorted(known, key=lambda level: level.cost_s)):
        colour = "tab:blue" if level.efficient else "tab:gray"
        error = [[max(0.0, level.quality - level.low)], [max(0.0, level.high - level.quality)]]
        axes.errorbar(level.cost_s, level.quality, error, fmt="o", color=colour)
        # Neighbours by cost are named above and below, so that names do not meet.
        axes.annotate(
            level.name,
            (level.cost_s, level.quality),
            (-3, 5) if place % 2 else (-3, -10),
            textcoords="offset points",
            size=7,
            ha="right",
        )
    axes.set(xscale="log", xlabel="device seconds a picture", ylabel="mean relative quality")
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    return figure(plot) + '<p class="weak">Blue: no level is better and costs no more.</p>'


def _noise(noise: SeedNoise | None) -> str:
    if noise is None:
        return '<p class="weak">No prompt was repeated.</p>'
    return (
        f"<p>{noise.prompts} prompts were drawn from several noises. At the reference level the "
        f"score of one prompt varies by {noise.within:.3f} (standard deviation) between noises, "
        f"prompts' means by {noise.between:.3f} between prompts. The relative quality of one "
        f"prompt at one level, from one noise, is known to ±{noise.of_a_prompt:.3f}: a smaller "
        "difference between two levels of a single prompt is noise.</p>"
    )


def _groups(
    heading: str, groups: Mapping[str, tuple[int, NDArray[np.float64]]], matrix: ScoreMatrix
) -> str:
    rows: list[dict[str, Cell]] = []
    for name, (number, values) in groups.items():
        row: dict[str, Cell] = {heading: name, "prompts": number}
        row |= {level.name: float(x) for level, x in zip(matrix.levels, values, strict=True)}
        rows.append(row)
    return table(rows)


def _similarity(matrix: ScoreMatrix) -> str:
    groups = by_similarity(matrix)
    if not groups:
        return '<p class="weak">Nothing was cached.</p>'
    return _groups("similarity", groups, matrix)


def _pictures(matrix: ScoreMatrix, work: WorkFolder) -> str:
    """Show the first test prompts of each kind; outlined: a fact is wrong, where that is known."""
    prompts, shown = matrix.prompts, []
    for kind in dict.fromkeys(prompts.kinds):
        own = [i for i, k in enumerate(prompts.kinds) if k == kind and prompts.splits[i] == "test"]
        own = own or [i for i, k in enumerate(prompts.kinds) if k == kind]
        shown += own[:SHOWN_A_KIND]
    known = "all_facts" in matrix.rows.scores
    right = matrix.scores("all_facts") if known else None
    head = "".join(f"<th>{html.escape(level.name)}</th>" for level in matrix.levels)
    lines = ""
    for i in shown:
        cells = f'<td class="text">{html.escape(prompts.texts[i])}</td>'
        for k, level in enumerate(matrix.levels):
            key = prompts.ids[i], 0, level.name
            bad = right is not None and right[i, 0, k] == 0
            cells += f"<td>{_image(work, key, bad)}</td>"
        lines += f"<tr>{cells}</tr>"
    note = "The first test prompts of each kind. Outlined: a fact is wrong." if known else ""
    return (
        f'<div class="wide"><table class="pictures"><tr><th>prompt</th>{head}</tr>{lines}</table>'
        f'</div><p class="weak">{note}</p>'
    )


def _image(work: WorkFolder, key: tuple[str, int, str], bad: bool) -> str:
    if key not in work:
        return "–"
    data = base64.b64encode(work.file(key).read_bytes()).decode()
    css = ' class="bad"' if bad else ""
    return f'<img{css} alt="{html.escape(key[2])}" src="data:image/png;base64,{data}">'


def _circumstances(matrix: ScoreMatrix) -> str:
    rows: list[Mapping[str, Cell]] = [
        {"what": k, "value": v} for k, v in matrix.header.circumstances.items()
    ]
    rows += [{"what": f"scorer {s.name}", "value": s.version} for s in matrix.header.scorers]
    if matrix.header.embedder:
        rows.append({"what": "embedder", "value": matrix.header.embedder})
    rows.append({"what": "fingerprint", "value": matrix.fingerprint()})
    return table(rows)
