"""The demo's report: one HTML file with the pictures inside."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; }
img { width: 100%; border: 1px solid #8884; border-radius: 6px; }
figcaption b { display: block; }
small, .note { opacity: .75; }
"""


def render(
    rows: Sequence[dict[str, Any]], pictures: Sequence[bytes], ready_s: float, work_s: float
) -> str:
    """Return the page.

    Args:
        rows: the entries of demo.json.
        pictures: their PNG bytes, in the same order.
        ready_s: seconds until the cluster served.
        work_s: seconds for all pictures.
    """
    nodes = Counter(row["node"] for row in rows)
    levels = Counter(row["level"] for row in rows)
    right = sum(row["facts_right"] for row in rows)
    figures = "\n".join(_figure(r, p) for r, p in zip(rows, pictures, strict=True))
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
{figures}
</main>
</html>
"""


def _count(counts: Counter[str]) -> str:
    return escape(", ".join(f"{name} {n}" for name, n in counts.most_common()))


def _figure(row: dict[str, Any], picture: bytes) -> str:
    data = base64.b64encode(picture).decode("ascii")
    prompt = escape(row["prompt"])
    verdict = "facts right" if row["facts_right"] else "facts wrong"
    return f"""<figure>
<img src="data:image/png;base64,{data}" alt="{prompt}" style="image-rendering: pixelated">
<figcaption><b>{prompt}</b>
<small>{escape(row["level"])} · {row["steps"]} steps · {escape(row["node"])} · seed {row["seed"]}
· queued {row["queued_s"]:.2f} s, ran {row["running_s"]:.2f} s · up to {row["max_lanes"]} lanes
· {verdict}</small></figcaption>
</figure>"""
