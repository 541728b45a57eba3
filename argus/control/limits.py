"""Limits of tenants: how many requests and pixels a second, how many requests at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from argus.control.tenants import TenantTerms
from argus.errors import InvalidArgumentError, QuotaError

RATE, PIXELS, CONCURRENCY = "rate_per_s", "pixels_per_s", "concurrency"
FIRST_STAY_S = 1.0
"""How long a request stays, as long as none has ended."""
STAY_SHARE = 0.2
"""Of the last stay in the average of stays."""
SHORTEST_WAIT_S = 0.05
LONGEST_WAIT_S = 3600.0
LEFT_FOR_S = 86400.0
"""What a process left of an account is dropped when its tenant has not come for so long."""
TIDY_AT = 1024
"""Tenants of which account is kept before those that are quiet are looked for."""


@dataclass(slots=True)
class Bucket:
    """A token bucket that may go into debt: what does not fit is let in when the bucket is full.

    The average never exceeds `rate_per_s` for longer than the debt of one request.
    """

    level: float
    filled_s: float

    def wait_s(self, amount: float, rate_per_s: float, most: float, now_s: float) -> float:
        """Return the seconds until `amount` may be taken; 0: now."""
        self._fill(rate_per_s, most, now_s)
        return max(0.0, (min(amount, most) - self.level) / rate_per_s)

    def take(self, amount: float) -> None:
        """Take `amount`; what is missing becomes debt."""
        self.level -= amount

    def is_full(self, rate_per_s: float, most: float, now_s: float) -> bool:
        """Return whether it holds all it can."""
        self._fill(rate_per_s, most, now_s)
        return self.level >= most

    def _fill(self, rate_per_s: float, most: float, now_s: float) -> None:
        gained = rate_per_s * max(0.0, now_s - self.filled_s)
        self.level = min(most, self.level + gained)
        self.filled_s = max(self.filled_s, now_s)


@dataclass(slots=True)
class _Account:
    terms: TenantTerms
    requests: Bucket
    pixels: Bucket
    in_flight: int = 0
    stay_s: float = FIRST_STAY_S

    @staticmethod
    def open(terms: TenantTerms, now_s: float) -> _Account:
        return _Account(
            terms, Bucket(terms.burst_requests, now_s), Bucket(terms.pixels_at_once, now_s)
        )

    def is_quiet(self, now_s: float) -> bool:
        """Return whether it says nothing that a new account would not."""
        full = self._fills(self.requests, self.terms.rate_per_s, self.terms.burst_requests, now_s)
        full &= self._fills(self.pixels, self.terms.pixels_per_s, self.terms.pixels_at_once, now_s)
        return full and not self.in_flight

    @staticmethod
    def _fills(bucket: Bucket, rate_per_s: float | None, most: float, now_s: float) -> bool:
        return rate_per_s is None or bucket.is_full(rate_per_s, most, now_s)


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A request that was let in; it is given back when the request has ended."""

    tenant: str
    since_s: float


@dataclass(frozen=True, slots=True)
class _Left:
    """What an earlier process left of an account: levels of the buckets at a time on this clock."""

    requests: float
    pixels: float
    stay_s: float
    at_s: float

    @staticmethod
    def read(tenant: str, values: Sequence[float | None], at_s: float) -> _Left:
        """Return it from what `state` returned in a process that wrote it at a time on this clock.

        Raises:
            ValueError: it makes no sense.
        """
        requests, pixels, stay_s, age_s = (math.inf if x is None else float(x) for x in values)
        sane = all(0 <= seconds < math.inf for seconds in (stay_s, age_s))
        if math.isnan(requests) or math.isnan(pixels) or not sane:
            raise ValueError(f"the account of tenant {tenant!r} makes no sense: {values}")
        return _Left(requests, pixels, stay_s, at_s - age_s)

    def apply(self, account: _Account) -> None:
        """Let a new account go on from it."""
        terms = account.terms
        account.requests = Bucket(min(self.requests, terms.burst_requests), self.at_s)
        account.pixels = Bucket(min(self.pixels, terms.pixels_at_once), self.at_s)
        account.stay_s = self.stay_s

    def state(self, now_s: float) -> list[float | None]:
        """Return it for yet another process."""
        age_s = round(max(0.0, now_s - self.at_s), 3)
        return [_finite(self.requests), _finite(self.pixels), round(self.stay_s, 4), age_s]


@dataclass(slots=True)
class TenantLimits:
    """Account of what every tenant asks for."""

    _accounts: dict[str, _Account] = field(default_factory=dict)
    _left: dict[str, _Left] = field(default_factory=dict)
    _tidy_at: int = TIDY_AT

    def state(self, now_s: float) -> dict[str, list[float | None]]:
        """Return what another process needs to go on, ready for JSON, as of now.

        By tenant: what is left of its requests and of its pixels, None without a limit, and for how
        long its requests stay.
        """
        state: dict[str, list[float | None]] = {}
        for tenant, x in self._accounts.items():
            if not x.is_quiet(now_s):
                levels = _finite(x.requests.level), _finite(x.pixels.level)
                state[tenant] = [*levels, round(x.stay_s, 4)]
        return state

    def state_left(self, now_s: float) -> dict[str, list[float | None]]:
        """Return what an earlier process left of tenants that have not come since.

        The same by tenant, and a fourth value: its age in seconds. It stands apart since processes
        of before know three.
        """
        return {
            tenant: left.state(now_s)
            for tenant, left in self._left.items()
            if now_s - left.at_s < LEFT_FOR_S
        }

    def restore(
        self,
        state: Mapping[str, Sequence[float | None]],
        at_s: float,
        left: Mapping[str, Sequence[float | None]] | None = None,
    ) -> None:
        """Go on where another process was.

        Args:
            state: what `state` returned there.
            at_s: when, on this clock; buckets have filled since.
            left: what `state_left` returned there; None: it did not say.

        Raises:
            ValueError: it makes no sense.
        """
        found = {str(x): _Left.read(x, [*values, 0.0], at_s) for x, values in state.items()}
        older = {str(x): _Left.read(x, values, at_s) for x, values in (left or {}).items()}
        self._left = older | found

    def enter(
        self, tenant: str, terms: TenantTerms, pixels: int, now_s: float, again: bool = False
    ) -> Ticket:
        """Let a request in; nothing is taken where it is refused.

        Args:
            tenant: whose it is.
            terms: of that tenant, as they are now.
            pixels: of the picture.
            now_s: monotonic.
            again: whether it asks for what was asked for before, which costs nothing more.

        Raises:
            QuotaError: names the limit, and says when there is room.
        """
        account = self._account(tenant, terms, now_s)
        if terms.concurrency is not None and account.in_flight >= terms.concurrency:
            wait_s = account.stay_s / terms.concurrency
            raise _over(tenant, CONCURRENCY, terms.concurrency, wait_s)
        if not again:
            self._charge(tenant, account, pixels, now_s)
        account.in_flight += 1
        return Ticket(tenant, now_s)

    def leave(self, ticket: Ticket, now_s: float) -> None:
        """Note that a request has ended."""
        account = self._accounts[ticket.tenant]
        account.in_flight -= 1
        account.stay_s += STAY_SHARE * (now_s - ticket.since_s - account.stay_s)

    def in_flight(self, tenant: str) -> int:
        """Return how many requests of a tenant are in flight."""
        account = self._accounts.get(tenant)
        return 0 if account is None else account.in_flight

    def __len__(self) -> int:
        return len(self._accounts)

    def _charge(self, tenant: str, account: _Account, pixels: int, now_s: float) -> None:
        """Take a request and its pixels out of both buckets, or out of none."""
        terms = account.terms
        if terms.rate_per_s is not None:
            wait_s = account.requests.wait_s(1, terms.rate_per_s, terms.burst_requests, now_s)
            if wait_s > 0:
                raise _over(tenant, RATE, terms.rate_per_s, wait_s)
        if terms.pixels_per_s is not None:
            most = terms.pixels_at_once
            wait_s = account.pixels.wait_s(pixels, terms.pixels_per_s, most, now_s)
            if wait_s > 0:
                raise _over(tenant, PIXELS, terms.pixels_per_s, wait_s)
            account.pixels.take(pixels)
        if terms.rate_per_s is not None:
            account.requests.take(1)

    def _account(self, tenant: str, terms: TenantTerms, now_s: float) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            self._tidy(now_s)
            account = self._accounts[tenant] = _Account.open(terms, now_s)
            if (left := self._left.pop(tenant, None)) is not None:
                left.apply(account)
        elif account.terms != terms:
            # Requests in flight stay counted; what was saved up counts by the new terms.
            in_flight, stay_s = account.in_flight, account.stay_s
            account = self._accounts[tenant] = _Account.open(terms, now_s)
            account.in_flight, account.stay_s = in_flight, stay_s
        return account

    def _tidy(self, now_s: float) -> None:
        """Forget tenants that are quiet: whoever makes up names must not fill the memory."""
        if len(self._accounts) < self._tidy_at:
            return
        for tenant in [t for t, account in self._accounts.items() if account.is_quiet(now_s)]:
            del self._accounts[tenant]
        self._tidy_at = max(TIDY_AT, 2 * len(self._accounts))


def _finite(level: float) -> float | None:
    return None if math.isinf(level) else round(level, 4)


def _over(tenant: str, limit: str, value: float, wait_s: float) -> QuotaError:
    whose = f"tenant {tenant!r}" if tenant else "who names no tenant"
    wait_s = min(max(wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S)
    return QuotaError(f"{whose} is at the limit {limit} of {value:,g}", limit, tenant, wait_s)


def check_terms(terms: TenantTerms, prompts: dict[str, str], pixels: int, steps: int) -> None:
    """Raise where one request is larger than the tenant's may be, which no waiting mends.

    Args:
        terms: of the tenant.
        prompts: texts by the field that holds them.
        pixels: of the picture.
        steps: asked for; 0: the variant's own.

    Raises:
        InvalidArgumentError: names the field and the limit.
    """
    for name, text in prompts.items():
        _check(name, "max_prompt_chars", len(text), terms.max_prompt_chars, "characters")
    _check("width", "max_pixels", pixels, terms.max_pixels, "pixels, width times height")
    _check("steps", "max_steps", steps, terms.max_steps, "steps")


def _check(name: str, limit: str, value: int, most: int | None, unit: str) -> None:
    if value > (math.inf if most is None else most):
        wanted = f"this tenant may ask for at most {most:,} {unit} ({limit}), not {value:,}"
        raise InvalidArgumentError(name, wanted)
