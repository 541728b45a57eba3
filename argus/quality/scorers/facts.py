"""Whether a picture shows what its caption states, in the bundled family's world.

In the manner of GenEval (Ghosh et al., NeurIPS 2023): objects, colours, counts and positions are
found in the picture and compared with the caption's. Where GenEval needs a trained detector, this
world is simple enough for geometry (`argus.models.verifier`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from argus.quality.scorers.base import Columns, Judged

VERSION = "1"


class FactScorer:
    """Columns `facts`, the share of stated facts that hold, and `all_facts`, 1 where all do.

    Both are NaN where the caption is not about this world.
    """

    name = "facts"
    version = VERSION
    columns = ("facts", "all_facts")

    def score(self, batch: Sequence[Judged]) -> Columns:
        """Return the columns, (n,) each."""
        from argus.models.captions import parse_caption
        from argus.models.verifier import verify

        values = np.full((2, len(batch)), np.nan)
        for i, judged in enumerate(batch):
            facts = parse_caption(judged.prompt)
            if facts is not None:
                verdict = verify(judged.pixels, facts)
                values[:, i] = verdict.score, float(verdict.all_facts)
        return dict(zip(self.columns, values, strict=True))
