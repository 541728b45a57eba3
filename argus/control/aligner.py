"""From the levels that prompts want to the levels that the plan affords.

Shares are by level, the safest first: a prompt that may be made at level i without loss loses
something at a more approximate level j > i and nothing at a safer one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from argus.errors import InvalidArgumentError

Shares = Sequence[float]
Losses = Sequence[Sequence[float]]
"""By predicted level and level made: quality lost by one request; 0 up to the predicted level."""
_EQUAL = 1e-6


@dataclass(frozen=True, slots=True)
class Alignment:
    """Who goes where.

    Attributes:
        odds: by predicted level, how likely each level is; rows add up to 1.
        loss: expected quality lost by a request.
    """

    odds: tuple[tuple[float, ...], ...]
    loss: float

    def made(self, predicted: Shares) -> tuple[float, ...]:
        """Return the shares that come out when shares `predicted` go in."""
        columns = zip(*self.odds, strict=True)
        return tuple(
            math.fsum(h * odds for h, odds in zip(predicted, column, strict=True))
            for column in columns
        )


def exact(predicted: Shares, planned: Shares, losses: Losses) -> Alignment:
    """Return the transport of least expected loss.

    Where losses grow the faster the farther a request is moved (Monge: swapping the targets of two
    requests never helps) the monotone coupling is the optimum, in closed form (Hoffman, 1963);
    elsewhere it is found as a linear program.

    Raises:
        InvalidArgumentError: shares are negative, do not add up to 1, or differ in length; losses
            have another shape or are not finite.
    """
    _check(predicted, planned)
    _check_losses(losses, len(predicted))
    sent = (
        _monotone(predicted, planned) if is_monge(losses) else _program(predicted, planned, losses)
    )
    return _alignment(predicted, sent, losses)


def is_monge(losses: Losses) -> bool:
    """Whether `loss(i,j) + loss(i+1,j+1) ≤ loss(i,j+1) + loss(i+1,j)` everywhere."""
    return all(
        above[j] + below[j + 1] <= above[j + 1] + below[j] + 1e-12
        for above, below in zip(losses, losses[1:], strict=False)
        for j in range(len(losses) - 1)
    )


def greedy(predicted: Shares, planned: Shares, losses: Losses) -> Alignment:
    """Return the published "optimised distribution aligner" (arXiv 2511.06724) as a chain.

    Levels are visited from the most approximate one down to the second safest. One with a surplus
    hands the fraction (have − planned) / have to the next safer level, where it is decided upon
    again. One with a deficit pulls from the nearest safer level that has something, then from the
    next: a request predicted there goes with the probability taken / share predicted. Donors were
    not yet visited, so what they have is their own prompts, and pulls by several levels exclude
    each other. A level without prompts gives nothing. Applied as the chain that it is, with what a
    surplus hands on decided again where it arrives, the outcome is the plan; taken as one hop it is
    not.

    Raises:
        InvalidArgumentError: as for `exact`.
    """
    _check(predicted, planned)
    _check_losses(losses, len(predicted))
    count = len(predicted)
    own = list(predicted)
    """Prompts still at their predicted level."""
    handed = 0.0
    """What the level above handed on to the one being visited."""
    pulled = [[0.0] * count for _ in range(count)]
    onward = [0.0] * count
    for level in range(count - 1, 0, -1):
        have = own[level] + handed
        handed = 0.0
        if have > planned[level]:
            handed = have - planned[level]
            onward[level] = handed / have
        missing = max(0.0, planned[level] - have)
        for donor in range(level - 1, -1, -1):
            taken = min(missing, own[donor])
            if taken > 0.0:
                pulled[donor][level] = taken / predicted[donor]
                own[donor] -= taken
                missing -= taken
    odds = [_chain(level, pulled[level], onward) for level in range(count)]
    sent = [[h * p for p in row] for h, row in zip(predicted, odds, strict=True)]
    return Alignment(tuple(tuple(row) for row in odds), _loss(sent, losses))


def _chain(level: int, pulled: list[float], onward: list[float]) -> list[float]:
    """Return where a request predicted at `level` ends: pulled up, or walking down the chain."""
    odds = pulled.copy()
    staying = max(0.0, 1.0 - math.fsum(pulled))
    for at in range(level, -1, -1):
        odds[at] += staying * (1.0 - onward[at])
        staying *= onward[at]
    return odds


def _monotone(predicted: Shares, planned: Shares) -> list[list[float]]:
    """Return the coupling that keeps the order (the north-west corner rule)."""
    count = len(predicted)
    sent = [[0.0] * count for _ in range(count)]
    supply, demand = list(predicted), list(planned)
    i = j = 0
    while i < count and j < count:
        moved = min(supply[i], demand[j])
        sent[i][j] += moved
        supply[i] -= moved
        demand[j] -= moved
        if supply[i] <= demand[j] and i < count - 1:
            i += 1
        else:
            j += 1
    return sent


def _program(predicted: Shares, planned: Shares, losses: Losses) -> list[list[float]]:
    import numpy as np
    from scipy.optimize import linprog

    count = len(predicted)
    rows = np.vstack(
        [np.kron(np.eye(count), np.ones(count)), np.kron(np.ones(count), np.eye(count))]
    )
    total = math.fsum(predicted) / math.fsum(planned)
    sums = [*predicted, *(share * total for share in planned)]
    # One of the sums follows from the others; left in, rounding could make them contradict.
    solved = linprog(
        np.asarray(losses, dtype=float).ravel(), A_eq=rows[:-1], b_eq=sums[:-1], method="highs"
    )
    sent = np.maximum(solved.x, 0.0).reshape(count, count)
    return [[float(x) for x in row] for row in sent]


def _alignment(predicted: Shares, sent: list[list[float]], losses: Losses) -> Alignment:
    odds = []
    for level, row in enumerate(sent):
        total = math.fsum(row)
        # Of levels that nothing was predicted for the next request is made as predicted.
        own = [float(level == at) for at in range(len(sent))]
        odds.append(tuple(x / total for x in row) if total > 0.0 else tuple(own))
    made = [[h * p for p in row] for h, row in zip(predicted, odds, strict=True)]
    return Alignment(tuple(odds), _loss(made, losses))


def _loss(sent: Sequence[Sequence[float]], losses: Losses) -> float:
    return math.fsum(
        x * loss
        for row, costs in zip(sent, losses, strict=True)
        for x, loss in zip(row, costs, strict=True)
    )


def _check(predicted: Shares, planned: Shares) -> None:
    if len(predicted) != len(planned) or not predicted:
        raise InvalidArgumentError(
            "planned", f"needs as many shares as predicted, {len(predicted)}, not {len(planned)}"
        )
    for field, shares in (("predicted", predicted), ("planned", planned)):
        if any(not (math.isfinite(x) and x >= 0.0) for x in shares):
            raise InvalidArgumentError(field, f"shares cannot be negative: {tuple(shares)}")
        if abs(math.fsum(shares) - 1.0) > _EQUAL:
            raise InvalidArgumentError(field, f"must add up to 1, not {math.fsum(shares):g}")


def _check_losses(losses: Losses, count: int) -> None:
    if len(losses) != count or any(len(row) != count for row in losses):
        raise InvalidArgumentError("losses", f"a row and a column for each of {count} levels")
    if not all(math.isfinite(x) for row in losses for x in row):
        raise InvalidArgumentError("losses", "must be finite")
