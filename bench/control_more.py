"""Variants, ablations, failures and the published tables: the other sections of the benchmark."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import control_search as search
from control_cells import (
    MEASURED,
    Contender,
    Job,
    Predictions,
    Row,
    Scenario,
    mean_and_half,
)
from control_judged import FIRST_SEED, LOADS, SHAPES, of_cell, plus_minus

from argus.control.policies import PolicyOptions
from argus.control.policies.argus_options import ArgusOptions
from argus.sim.setting import NodeLoss, Retrieval, SimSetting

Tables = dict[str, list[dict[str, Any]]]
ARGUS = Contender("argus", "argus")

# -- variants -----------------------------------------------------------------------------------

VARIANTS = {
    "as judged": Scenario("poisson", 1.0, 0, 0),
    "10 % jitter": Scenario("poisson", 1.0, 0, 0, SimSetting(jitter=0.1)),
    "steps in batches": Scenario("poisson", 1.0, 0, 0, profile="published, batched"),
    "64 nodes": Scenario("poisson", 1.0, 0, 0, SimSetting(nodes=64)),
}
_MORE_REQUESTS = {"64 nodes": 4, "steps in batches": 2}
"""Times as many, so that the trace is not over before anything happened."""


def variant_jobs(out: Path, requests: int, seeds: int) -> list[Job]:
    """Return Argus and the quickest baseline in every variant."""
    who = (ARGUS, *(c for c in search.chosen(out) if c.policy in ("argus-paper", "clipper-ht")))
    return [
        Job(
            replace(
                base,
                shape=shape,
                load=load,
                seed=FIRST_SEED + seed,
                requests=requests * _MORE_REQUESTS.get(name, 1),
            ),
            who,
        )
        for (name, base), shape, load, seed in itertools.product(
            VARIANTS.items(), SHAPES, LOADS, range(seeds)
        )
    ]


def variant_tables(rows: Sequence[Row]) -> Tables:
    """Return Argus's figures in each variant and what each costs against `as judged`."""
    found = []
    for name, shape, load in itertools.product(VARIANTS, SHAPES, LOADS):
        if name == "as judged":
            continue
        plain, own = (
            [r for r in _of_variant(rows, n) if r in of_cell(rows, "argus", shape, load)]
            for n in ("as judged", name)
        )
        quality, was = (mean_and_half(r.quality for r in x)[0] for x in (own, plain))
        violations, were = (mean_and_half(r.violations for r in x)[0] for x in (own, plain))
        gap = mean_and_half((r.bound - r.quality) / r.bound for r in own)[0]
        found.append(
            {
                "variant": name,
                "trace": shape,
                "load": load,
                "quality of all %": plus_minus([r.quality for r in own]),
                "below its bound %": f"{100 * gap:.2f}",
                "violations %": plus_minus([r.violations for r in own]),
                "least possible %": plus_minus([r.least_violations for r in own]),
                "quality lost, points": f"{100 * (was - quality):.2f}",
                "violations added, points": f"{100 * (violations - were):.2f}",
                "within 1.5 and 1": "yes"
                if was - quality <= 0.015 and violations - were <= 0.01
                else "no",
            }
        )
    others = [
        {
            "variant": name,
            "trace": shape,
            "load": load,
            **{
                f"{label}: quality, violations %": ", ".join(
                    f"{100 * mean_and_half(values)[0]:.2f}"
                    for values in (
                        [r.quality for r in _only(rows, name, label, shape, load)],
                        [r.violations for r in _only(rows, name, label, shape, load)],
                    )
                )
                for label in ("argus", "argus-paper", "clipper-ht")
            },
        }
        for name, shape, load in itertools.product(VARIANTS, SHAPES, LOADS)
    ]
    return {"Argus in each variant": found, "Beside two baselines": others}


def _of_variant(rows: Sequence[Row], name: str) -> list[Row]:
    base = VARIANTS[name]
    return [
        r for r in rows if (r.scenario.setting, r.scenario.profile) == (base.setting, base.profile)
    ]


def _only(rows: Sequence[Row], name: str, label: str, shape: str, load: float) -> list[Row]:
    return of_cell(_of_variant(rows, name), label, shape, load)


# -- ablations ----------------------------------------------------------------------------------


def ablations() -> tuple[Contender, ...]:
    """Return Argus whole, and without each part that its options can switch off."""
    flags = [
        f.name
        for f in dataclasses.fields(ArgusOptions)
        if isinstance(f.default, bool) and f.default and f.name != "shed"
    ]
    without = [
        Contender(f"without {name.replace('_', ' ')}", "argus", parts={name: False})
        for name in flags
    ]
    unshed = Contender("without shedding", "argus", PolicyOptions(shed=False))
    trusting = Contender("without recalibration", "argus", recalibrated=False)
    return (ARGUS, *without, trusting, unshed)


def ablation_jobs(out: Path, requests: int, seeds: int) -> list[Job]:
    """Return Argus with each part switched off."""
    return [
        Job(Scenario(shape, load, FIRST_SEED + seed, requests), ablations())
        for shape, load, seed in itertools.product(SHAPES, LOADS, range(seeds))
    ]


def ablation_tables(rows: Sequence[Row]) -> Tables:
    """Return what is lost without each part."""
    labels = [c.label for c in ablations()]
    sums = []
    for label in labels:
        own, whole = ([r for r in rows if r.contender.label == x] for x in (label, "argus"))
        quality = [a.quality - b.quality for a, b in zip(whole, own, strict=True)]
        violations = [b.violations - a.violations for a, b in zip(whole, own, strict=True)]
        sums.append(
            {
                "policy": label,
                "quality of all %": plus_minus([r.quality for r in own]),
                "violations %": plus_minus([r.violations for r in own]),
                "quality lost, points": plus_minus(quality),
                "violations added, points": plus_minus(violations),
            }
        )
    cells = [
        {
            "trace": shape,
            "load": load,
            **{
                label: ", ".join(
                    f"{100 * mean_and_half(values)[0]:.2f}"
                    for values in (
                        [r.quality for r in of_cell(rows, label, shape, load)],
                        [r.violations for r in of_cell(rows, label, shape, load)],
                    )
                )
                for label in labels
            },
        }
        for shape, load in itertools.product(SHAPES, LOADS)
    ]
    return {"Over all traces and loads": sums, "Quality of all, violations %": cells}


# -- the bundled family -------------------------------------------------------------------------

MEASURED_LOADS = (2.0, 6.0, 12.0, 18.0)
MEASURED_NODES = 2
"""Its cheap levels are so good that whole runs are no measure of what the nodes can do."""


def measured_jobs(out: Path, requests: int, seeds: int) -> list[Job]:
    """Return Argus and all baselines on the bundled family's ladder, costs and scores."""
    who = (ARGUS, *search.chosen(out))
    base = Scenario("", 0, 0, requests, SimSetting(nodes=MEASURED_NODES), MEASURED)
    return [
        Job(replace(base, shape=shape, load=load, seed=FIRST_SEED + seed), who)
        for shape, load, seed in itertools.product(
            ("poisson", "burst"), MEASURED_LOADS, range(seeds)
        )
    ]


def measured_tables(rows: Sequence[Row]) -> Tables:
    """Return quality and violations by load."""
    labels = list(dict.fromkeys(r.contender.label for r in rows))
    tables: Tables = {}
    for heading, field, limit in (
        ("Quality of all %", "quality", "bound"),
        ("Violations %", "violations", "least_violations"),
    ):
        tables[heading] = [
            {
                "trace": shape,
                "load": load,
                **{
                    label: plus_minus(
                        [getattr(r, field) for r in of_cell(rows, label, shape, load)], 1
                    )
                    for label in labels
                },
                "bound": plus_minus(
                    [getattr(r, limit) for r in of_cell(rows, "argus", shape, load)], 1
                ),
            }
            for shape, load in itertools.product(("poisson", "burst"), MEASURED_LOADS)
        ]
    return tables


# -- failures -----------------------------------------------------------------------------------

UNEQUAL = (0.6, 0.6, 0.8, 1.0, 1.0, 1.0, 1.5, 2.0)
"""Seconds of eight nodes relative to the profile's."""


def failures(requests: int, seed: int) -> dict[str, tuple[Scenario, Predictions]]:
    """Return each scenario, by name. At the peak: in the middle of a diurnal trace."""
    base = Scenario("diurnal", 0.8, seed, requests)
    peak_s, width_s = base.seconds / 2, base.seconds / 6
    lost = tuple(NodeLoss(node, peak_s, peak_s + width_s, noticed_s=2.0) for node in (0, 1))
    out = Retrieval(0.05, 0.5, outages=((peak_s, peak_s + width_s),))
    noisy = Predictions.NOISY
    return {
        "nothing happens": (base, noisy),
        "unequal nodes": (replace(base, setting=SimSetting(seconds_scales=UNEQUAL)), noisy),
        "two of eight nodes lost at the peak": (
            replace(base, setting=SimSetting(losses=lost)),
            noisy,
        ),
        "no state is found at the peak": (
            replace(base, setting=SimSetting(retrieval=out)),
            noisy,
        ),
        "predictions are noise": (base, Predictions.NOISE),
        "five times the demand in a second": (replace(base, shape="step", load=0.6), noisy),
    }


def failure_jobs(out: Path, requests: int, seeds: int) -> list[Job]:
    """Return Argus and all baselines in every scenario."""
    who = (ARGUS, *search.chosen(out))
    return [
        Job(scenario, tuple(replace(c, predictions=predictions) for c in who))
        for seed in range(seeds)
        for scenario, predictions in failures(requests, FIRST_SEED + seed).values()
    ]


def failure_tables(rows: Sequence[Row]) -> Tables:
    """Return quality, violations and goodput in each scenario."""
    labels = list(dict.fromkeys(r.contender.label for r in rows))
    names: dict[tuple[Scenario, Predictions], str] = {}
    for seed in {r.scenario.seed for r in rows}:
        requests = rows[0].scenario.requests
        names.update({pair: name for name, pair in failures(requests, seed).items()})
    tables: Tables = {}
    for heading, field in (
        ("Quality of all %", "quality"),
        ("Violations %", "violations"),
        ("Pictures on time a minute", "goodput"),
    ):
        table = []
        for name in dict.fromkeys(names.values()):
            cells: dict[str, Any] = {"scenario": name}
            for label in labels:
                own = [
                    r
                    for r in rows
                    if names[r.scenario, r.contender.predictions] == name
                    and r.contender.label == label
                ]
                values = [getattr(r, field) for r in own]
                if field == "goodput":
                    mean, half = mean_and_half(60 * x for x in values)
                    cells[label] = f"{mean:.1f} ± {half:.1f}"
                else:
                    cells[label] = plus_minus(values)
            if field != "goodput":
                bounds = [
                    r.bound if field == "quality" else r.least_violations
                    for r in rows
                    if names[r.scenario, r.contender.predictions] == name
                    and r.contender.label == labels[0]
                ]
                cells["bound"] = plus_minus(bounds)
            table.append(cells)
        tables[heading] = table
    return tables
