"""What a predictor's details say, as sections of the profile's report."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from argus.quality.report import Section, figure, table

NAN = float("nan")
Details = Mapping[str, Any]


def predictor_sections(kind: str, details: Details) -> tuple[Section, ...]:
    """Return the sections on a predictor.

    Args:
        kind: of the model that was kept.
        details: of predictor.json, as `argus fit` writes them.
    """
    return (
        Section("Predictor: what was compared", _comparison(kind, details)),
        Section("Predictor: score at equal compute", _scores(details)),
        Section("Predictor: share of the gap closed", _gap(details)),
        Section("Predictor: reliability", _reliability(details)),
        Section("Predictor: lower bounds", _coverage(details)),
    )


def _number(value: Any) -> float:
    return NAN if value is None else float(value)


def _comparison(kind: str, details: Details) -> str:
    rows = [
        {
            "kind": row["kind"],
            "settings": row["settings"],
            "regret, train (cross-validated)": _number(row["regret"]),
            "regret, calibration": _number(row["regret_calibration"]),
            "regret, test": _number(row["regret_test"]),
            "error, train (cross-validated)": _number(row["error"]),
            "error, calibration": _number(row["error_calibration"]),
            "error, test": _number(row["error_test"]),
        }
        for row in details["comparison"]
    ]
    prompts = ", ".join(f"{n} {name}" for name, n in details["prompts"].items())
    text = (
        f"<p>Prompts: {html.escape(prompts)}. Kept is the kind with the least regret on train "
        f"prompts whose group it was not fitted to: <b>{html.escape(kind)}</b>. Regret is what a "
        "choice by the predictions loses in the main score, on average over ladders and budgets, "
        "against one that knows each picture beforehand, which nobody can; error is the root mean "
        "square of the predicted relative quality.</p>"
    )
    accuracy = [
        {
            "strategy": row["levels"],
            "classes": row["classes"],
            "accuracy": _number(row["accuracy"]),
            "at most one off": _number(row["within_one"]),
            "the most frequent class": _number(row["most_frequent"]),
            "pictures": row["pictures"],
        }
        for row in details["harmless"]
    ]
    more = "<p>The ordinal classifier's harmless level, on test pictures:</p>" + table(accuracy)
    return text + table(rows) + (more if accuracy else "")


def _scores(details: Details) -> str:
    """One table a ladder: policies down, budgets across."""
    parts = []
    choices = details["choices"]
    for ladder in dict.fromkeys(c["ladder"] for c in choices):
        own = [c for c in choices if c["ladder"] == ladder]
        budgets = list(dict.fromkeys(c["saved"] for c in own))
        rows = []
        for policy in dict.fromkeys(c["policy"] for c in own):
            row: dict[str, str | float] = {"policy": policy}
            at = {c["saved"]: c for c in own if c["policy"] == policy}
            for saved in budgets:
                row[f"{saved:.0%} saved"] = (
                    f"{at[saved]['score']:.3f} ({at[saved]['low']:.3f} to {at[saved]['high']:.3f})"
                    if saved in at
                    else "–"
                )
            rows.append(row)
        parts.append(f"<h3>{html.escape(ladder)}</h3>{table(rows)}")
    text = (
        "<p>Mean of the main score on test prompts, with 95 % intervals by resampling groups of "
        "prompts. Every policy may spend the same device seconds; one that has no use for them "
        "spends less. The oracle knows each picture; the repeatable oracle knows the prompt's "
        "other repeats and is judged on the one left out, so it bounds what the prompt alone can "
        "tell, as far as three pictures show it. Budgets that a ladder cannot meet are left out."
        "</p>"
    )
    return text + "".join(parts)


def _gap(details: Details) -> str:
    rows = [
        {
            "ladder": row["ladder"],
            "saved": f"{row['saved']:.0%}",
            "ceiling": row["ceiling"],
            "gap": _number(row["gap"]),
            "gap from": _number(row["gap_low"]),
            "gap to": _number(row["gap_high"]),
            "share closed": _number(row["share"]),
            "share from": _number(row["low"]),
            "share to": _number(row["high"]),
        }
        for row in details["gap_closed"]
    ]
    text = (
        "<p>The gap is what a ceiling scores above the best mix of levels that is the same for all "
        "prompts. Where its interval holds 0 there is nothing to close, and no share is given.</p>"
    )
    return text + table(rows)


def _reliability(details: Details) -> str:
    bins = details["reliability"]
    rows = [
        {
            "predicted": _number(b["predicted"]),
            "measured": _number(b["measured"]),
            "pictures": b["pictures"],
        }
        for b in bins
    ]
    text = (
        "<p>Mean relative quality that was measured on test pictures, by what was predicted; "
        f"expected calibration error {_number(details['calibration_error']):.4f}. With finitely "
        "many pictures it is above 0 for a perfect predictor, too.</p>"
    )
    return text + _plot([b["predicted"] for b in bins], [b["measured"] for b in bins]) + table(rows)


def _plot(predicted: Sequence[float], measured: Sequence[float]) -> str:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plot, axes = plt.subplots(figsize=(4.5, 4.2))
    ends = min(*predicted, *measured), max(*predicted, *measured)
    axes.plot(ends, ends, color="tab:gray", lw=1)
    axes.plot(predicted, measured, "o-", color="tab:blue")
    axes.set(xlabel="predicted", ylabel="measured")
    axes.grid(alpha=0.3)
    return figure(plot)


def _coverage(details: Details) -> str:
    rows = [
        {
            "level": row["level"],
            "covered": _number(row["share"]),
            "pictures": row["pictures"],
            "mean lower bound": _number(row["lower"]),
        }
        for row in details["coverage"]
    ]
    covered = sum(row["covered"] for row in details["coverage"])
    pictures = sum(row["pictures"] for row in details["coverage"])
    strange = ", ".join(f"{n} {name}" for name, n in details["strange"].items())
    floors = [
        {
            "min_quality": _number(row["floor"]),
            "pictures that reach it": _number(row["reached"]),
            "compute saved": _number(row["saved"]),
            "reach it, held against the mean": _number(row["by_mean"]),
            "compute saved then": _number(row["saved_by_mean"]),
        }
        for row in details["floors"]
    ]
    return (
        f"<p>Share of test pictures that are not below their lower bound: {covered / pictures:.3f}"
        f" over all levels; 0.9 is wanted at each. Strange prompts, whose bound is 0: "
        f"{html.escape(strange)}.</p>{table(rows)}<p>What <code>min_quality</code> leads to when "
        "the cheapest level whose bound reaches it is taken:</p>" + table(floors)
    )
