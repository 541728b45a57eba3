"""A bound on the quality that any schedule can reach, knowing everything beforehand.

The problem is relaxed three times: a request may be split between levels, its work may be cut and
run on several nodes at once, and time comes in bins whose whole capacity is open to whatever may
use any part of them. With `x_il` the share of request `i` made at level `l`, `c_l` seconds of a
node and `q_il` its quality there, the relaxed problem is

    max  Σ q_il x_il
    s.t. Σ_l x_il ≤ 1
         Σ_i work of i done in bin t ≤ capacity_t,   work of i = Σ_l c_l x_il, within its window.

Every schedule is a solution of it, so its optimum is a bound; by weak duality so is, for any prices
π ≥ 0 of the bins,

    Σ_i max(0, max_l q_il − c_l · min_{t in window of i} π_t) + Σ_t capacity_t π_t.

The prices come from HiGHS; the bound is computed from them in that closed form, so that it holds
whatever the solver did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linprog

from argus.errors import InvalidArgumentError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bound:
    """What no schedule can exceed.

    Attributes:
        quality: sum over all requests, one that is late or refused counting 0.
        mean_quality: the same by request.
        prices: of a node's second in each bin, in units of quality.
        bin_s: width of a bin.
    """

    quality: float
    mean_quality: float
    prices: Floats
    bin_s: float


def clairvoyant_bound(
    arrival_s: ArrayLike,
    deadline_s: ArrayLike,
    quality: ArrayLike,
    cost_s: ArrayLike,
    nodes: float,
    bin_s: float = 1.0,
) -> Bound:
    """Return the bound for a trace.

    Args:
        arrival_s: (n,) when requests come, ascending.
        deadline_s: (n,) when they are late, absolute.
        quality: (n, levels) of each request at each level, 0 or more.
        cost_s: (levels,) seconds of one node that a request takes at each level, the least that
            any node needs where they differ.
        nodes: how many requests are worked on at once, in nodes of that speed.
        bin_s: width of the bins; narrower is tighter and slower.

    Raises:
        InvalidArgumentError: shapes do not fit, or a value is out of range.
    """
    arrival, deadline = np.asarray(arrival_s, float), np.asarray(deadline_s, float)
    q, cost = np.asarray(quality, float), np.asarray(cost_s, float)
    _check(arrival, deadline, q, cost, nodes, bin_s)
    if not len(arrival):
        return Bound(0.0, 0.0, np.zeros(0), bin_s)
    # What not even an idle node makes in time is worth nothing at that level.
    q = np.where(cost[None, :] <= (deadline - arrival)[:, None] + 1e-9, q, 0.0)
    start = arrival[0]
    first = np.floor((arrival - start) / bin_s).astype(int)
    last = np.maximum(first, np.ceil((deadline - start) / bin_s).astype(int) - 1)
    prices = _prices(first, last, q, cost, nodes * bin_s)
    total = _dual(first, last, q, cost, nodes * bin_s, prices)
    return Bound(total, total / len(arrival), prices, bin_s)


def _check(
    arrival: Floats, deadline: Floats, q: Floats, cost: Floats, nodes: float, bin_s: float
) -> None:
    if arrival.ndim != 1 or deadline.shape != arrival.shape:
        raise InvalidArgumentError("deadline_s", "one for each arrival is needed")
    if q.shape != (len(arrival), len(cost)):
        raise InvalidArgumentError(
            "quality", f"{len(arrival)} x {len(cost)} values are needed, not {q.shape}"
        )
    if np.any(np.diff(arrival) < 0):
        raise InvalidArgumentError("arrival_s", "must ascend")
    if np.any(deadline < arrival):
        raise InvalidArgumentError("deadline_s", "must not be before the arrival")
    for name, values in (("quality", q), ("cost_s", cost)):
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise InvalidArgumentError(name, "must be finite and not below 0")
    for name, value in (("nodes", nodes), ("bin_s", bin_s)):
        if not value > 0:
            raise InvalidArgumentError(name, f"must be above 0, not {value}")


def _prices(
    first: NDArray[np.int_], last: NDArray[np.int_], q: Floats, cost: Floats, capacity: float
) -> Floats:
    """Return the bins' prices from the relaxed problem in which work is done in arrival's order.

    For windows that end in the order in which they begin, that order loses nothing, so that work
    done so far, one variable a bin, says all: by bin t it is at least what must be done by then
    and at most what has come. For other windows the prices are no longer the best ones; the
    bound that they give still holds.

    What a request gains is a concave function of the work spent on it, made of pieces of falling
    slope, so that its levels need no constraint between them: the better pieces are taken first.
    """
    bins = int(last.max()) + 1
    request, work, gain = _pieces(q, cost)
    first, last, pieces = first[request], last[request], len(request)
    if not pieces:
        return np.zeros(bins)
    column = np.arange(pieces)
    ones = np.ones(pieces)
    come = sparse.csr_matrix((ones, (first, column)), (bins, pieces))
    due = sparse.csr_matrix((ones, (last, column)), (bins, pieces))
    # Cumulative sums would be dense; totals that have come (C) and are due (U) are variables, as
    # is the work done (D), all up to the end of each bin.
    eye = sparse.identity(bins)
    step = eye - sparse.eye(bins, k=-1)
    zero = sparse.csr_matrix((bins, bins))
    nothing = sparse.csr_matrix((bins, pieces))
    totals = [[-come, zero, step, zero], [-due, zero, zero, step]]
    order = [[nothing, eye, -eye, zero], [nothing, -eye, zero, eye], [nothing, step, zero, zero]]
    solved = linprog(
        np.concatenate([-gain / work, np.zeros(3 * bins)]),
        A_ub=sparse.bmat(order).tocsr(),
        b_ub=np.concatenate([np.zeros(2 * bins), np.full(bins, capacity)]),
        A_eq=sparse.bmat(totals).tocsr(),
        b_eq=np.zeros(2 * bins),
        bounds=np.column_stack(
            [
                np.zeros(pieces + 3 * bins),
                np.concatenate([work, np.full(3 * bins, np.inf)]),
            ]
        ),
        method="highs-ipm",
    )
    return np.maximum(0.0, -np.asarray(solved.ineqlin.marginals)[2 * bins :])


def _pieces(q: Floats, cost: Floats) -> tuple[NDArray[np.int_], Floats, Floats]:
    """Return the pieces of the upper concave hull of each request's (work, quality), from (0, 0).

    Returns:
        The request, the work and the gain of each piece.
    """
    found: list[tuple[NDArray[np.int_], Floats, Floats]] = []
    request = np.arange(len(q))
    at_cost, at_quality = np.zeros(len(q)), np.zeros(len(q))
    while len(request):
        # Of what costs more than the last corner, the corner of the steepest way up is next.
        more = cost[None, :] - at_cost[:, None]
        rise = q[request] - at_quality[:, None]
        slope = np.where((more > 0) & (rise > 0), rise / np.where(more > 0, more, 1.0), 0.0)
        best = slope.max(axis=1)
        goes_on = best > 0
        # Among corners on one line the last one saves pieces.
        steepest = (slope > 0) & (slope >= best[:, None] * (1 - 1e-12))
        level = slope.shape[1] - 1 - steepest[:, ::-1].argmax(axis=1)
        rows = np.flatnonzero(goes_on)
        level = level[rows]
        found.append((request[rows], more[rows, level], rise[rows, level]))
        request, at_cost, at_quality = request[rows], cost[level], q[request[rows], level]
    columns = zip(*found, strict=True)
    request, work, gain = (np.concatenate(column) for column in columns)
    return request, work, gain


def _dual(
    first: NDArray[np.int_],
    last: NDArray[np.int_],
    q: Floats,
    cost: Floats,
    capacity: float,
    prices: Floats,
) -> float:
    """Return the dual's value at `prices`."""
    cheapest = _window_minimum(prices, first, last)
    worth = (q - cheapest[:, None] * cost[None, :]).max(axis=1)
    return float(np.maximum(0.0, worth).sum() + capacity * prices.sum())


def _window_minimum(values: Floats, first: NDArray[np.int_], last: NDArray[np.int_]) -> Floats:
    """Return the least of `values` in each window, by a table of minima over powers of two."""
    table = [values]
    while 2 ** len(table) <= len(values):
        half = 2 ** (len(table) - 1)
        table.append(np.minimum(table[-1][:-half], table[-1][half:]))
    power = np.log2(last - first + 1 + 0.5).astype(int)
    least = np.empty(len(first))
    for k in np.unique(power):
        chosen = power == k
        ends = last[chosen] - 2**k + 1
        least[chosen] = np.minimum(table[k][first[chosen]], table[k][ends])
    return least
