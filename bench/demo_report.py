"""The demo's report: one HTML file with the pictures inside."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

STYLE = """
:root { color-scheme: light dark; --right: #1a7f37; --wrong: #b35900; }
@media (prefers-color-scheme: dark) { :root { --right: #4ac26b; --wrong: #f0a150; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: auto; padding: 1rem; }
section { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
figure { margin: 0; }
img { width: 100%; border: 1px solid #8884; border-radius: 6px; image-rendering: pixelated; }
figcaption b, figcaption small { display: block; }
small { opacity: .75; }
.right { color: var(--right); }
.wrong { color: var(--wrong); }
"""


def render(
    rows: Sequence[dict[str, Any]], pictures: Sequence[bytes], ready_s: float, work_s: float
) -> str:
    """Return the page.

    Args:
        rows: the entries of demo.json, those of one section beside each other.
        pictures: their PNG bytes, in the same order.
        ready_s: seconds until the cluster served.
        work_s: seconds for all pictures.
    """
    nodes = Counter(row["node"] for row in rows)
    levels = Counter(row["level"] for row in rows)
    right = sum(row["facts_right"] for row in rows)
    parts = []
    for heading, members in groupby(
        zip(rows, pictures, strict=True), key=lambda pair: pair[0]["section"]
    ):
        figures = "\n".join(_figure(row, picture) for row, picture in members)
        parts.append(f"<h2>{escape(heading)}</h2>\n<section>\n{figures}\n</section>")
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Argus demo</title>
<style>{STYLE}</style>
<h1>Argus demo</h1>
<p>{len(rows)} pictures in {work_s:.1f} s on {len(nodes)} nodes ({_count(nodes)}), ready after
{ready_s:.1f} s. Levels: {_count(levels)}. {right} of {len(rows)} show what their prompt says,
as the bundled fact verifier judges it.</p>
<main>
{body}
</main>
</html>
"""


def _count(counts: Counter[str]) -> str:
    return escape(", ".join(f"{name} {n}" for name, n in counts.most_common()))


def _figure(row: dict[str, Any], picture: bytes) -> str:
    data = base64.b64encode(picture).decode("ascii")
    prompt = escape(row["prompt"])
    kind, verdict = ("right", "✓ facts right") if row["facts_right"] else ("wrong", "✗ facts wrong")
    return f"""<figure>
<img src="data:image/png;base64,{data}" alt="{prompt}">
<figcaption><b>{prompt}</b>
<small class="{kind}">{verdict}</small>
<small>{escape(row["level"])}, {row["steps"]} steps, seed {row["seed"]}</small>
<small>{escape(row["node"])}: queued {row["queued_s"]:.2f} s, ran {row["running_s"]:.2f} s with up
to {row["max_lanes"]} lanes</small></figcaption>
</figure>"""
