"""Argus's own policy: each request at the level that is worth most at the present price.

Level and node are chosen when a node has room, for the most urgent waiting task: the level with the
highest expected `quality − price · device seconds` among those that

- are predicted to end before the deadline, with a margin learned from rows that ended, and
- leave the tasks behind enough time at their fastest levels (`argus.control.slack`).

The price follows the backlog (`argus.control.pricing`). Where even the fastest levels of all who
wait cannot be on time, the one that loses least quality for the device seconds it frees is let go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from argus.control.admission import SHORTEST_RETRY_S, check_possible
from argus.control.choices import Choices, choices_of
from argus.control.fleet import Fleet
from argus.control.line import Waiting, WaitingLine, urgency
from argus.control.margins import Margins
from argus.control.moment import NOTHING_HELD, Held, Moment, Place, avoided, soonest
from argus.control.policies.argus_options import ArgusOptions
from argus.control.policies.options import PolicyOptions, Recalibrator
from argus.control.policy import Figures, GiveUp, Start, Task
from argus.control.pricing import Pricing
from argus.control.router import Decision
from argus.control.slack import Slack
from argus.errors import DeadlineError, OverloadedError, UnavailableError


@dataclass(frozen=True, slots=True)
class _Started:
    entry: Waiting
    kind: str
    at_s: float
    predicted_s: float


class ArgusPolicy:
    """See the module's text.

    Args:
        options: settings; None: the defaults.
        recalibrate: expected qualities of predicted ones; None: predictions are taken as they are.
    """

    def __init__(
        self, options: ArgusOptions | None = None, recalibrate: Recalibrator | None = None
    ) -> None:
        self._options = options or ArgusOptions()
        self._recalibrate = recalibrate
        self._line = WaitingLine()
        self._entries: dict[str, Waiting] = {}
        self._started: dict[str, _Started] = {}
        self._let_go: list[GiveUp] = []
        self._margins = Margins(self._options.margin_share)
        self._slack = Slack(self._line, self._margins, self._options.relax)
        self._pricing = Pricing(self._options.memory_s, self._options.curve_s, self._options.burst)
        self._fresh: tuple[Task, tuple[float, int], Place] | None = None
        self._epoch = -1
        self.price = 0.0
        """Worth of a device second in units of quality, as of the last decision."""

    # -- what comes and goes --------------------------------------------------------------------

    def admit(self, task: Task, fleet: Fleet, now_s: float) -> Decision:
        """Take a new task; see `argus.control.policy.Policy`."""
        moment = self._moment(fleet, now_s)
        choices = self._choices(task, fleet)
        remaining_s = task.deadline_at_s - now_s
        check_possible(None if choices is None else choices.idle_s, remaining_s)
        assert choices is not None, "check_possible raises where there are none"
        entry = Waiting(task, choices, urgency(task))
        if self._options.shed and remaining_s < math.inf:
            self._make_way(entry, moment)
        self._pricing.arrive(choices, remaining_s, now_s)
        decision = self._expected(entry, moment)
        self._add(entry)
        return decision

    def withdraw(self, task: Task) -> None:
        """Forget a task that waits."""
        self._remove(self._entries[task.id])

    def put_back(self, task: Task) -> None:
        """Take a started task back."""
        started = self._started.pop(task.id)
        self._add(Waiting(task, started.entry.choices, urgency(task)))

    def ended(self, task: Task, now_s: float) -> None:
        """Note that a started task is done, failed or cancelled."""
        started = self._started.pop(task.id)
        self._margins.note(started.kind, started.predicted_s, now_s - started.at_s)

    def plan(self, fleet: Fleet, now_s: float) -> float:
        """Work out what a device second is worth at which backlog."""
        return self._pricing.plan(self._moment(fleet, now_s).nodes, now_s)

    def figures(self, now_s: float) -> Figures:
        """Return what decisions go by now."""
        return Figures(
            price=self.price,
            arrivals_per_s=self._pricing.rate.at(now_s),
            load=self._pricing.load(now_s),
            margin=self._margins.largest,
            plan_age_s=self._pricing.age_s(now_s),
        )

    # -- decisions ------------------------------------------------------------------------------

    def dispatch(self, fleet: Fleet, now_s: float) -> Iterator[Start | GiveUp]:
        """Yield what to do now; see `argus.control.policy.Policy`."""
        while self._let_go:
            yield self._let_go.pop()
        held: dict[str, float] = {}
        moment = self._moment(fleet, now_s)
        index = 0
        while index < len(self._line):
            if not moment.has_room:
                return
            entry = self._line[index]
            act = None if entry.task.held else self._act(entry, index, moment, held)
            if act is None:
                index += 1
                continue
            self._remove(entry)
            if isinstance(act, Start):
                kind = fleet[act.decision.node].info.device_name
                self._started[entry.task.id] = _Started(
                    entry, kind, now_s, act.decision.predicted_finish_s
                )
            yield act
            moment = self._moment(fleet, now_s)

    def _act(
        self, entry: Waiting, index: int, moment: Moment, held: dict[str, float]
    ) -> Start | GiveUp | None:
        """Return what to do with a task; None where it is worth waiting for a full node."""
        place = self._place(entry, index, moment, held)
        if place is None or isinstance(place, GiveUp):
            return place
        if place.has_room:
            return Start(entry.task, place.decision)
        name = place.decision.node
        cost_s = moment.fleet[name].device_s(place.decision.offer.row)
        held[name] = held.get(name, 0.0) + cost_s
        return None

    def _place(
        self, entry: Waiting, index: int, moment: Moment, held: Held
    ) -> Place | GiveUp | None:
        """Return the choice for a task; the one just made on its arrival, where nothing changed."""
        fresh, self._fresh = self._fresh, None
        if fresh is not None and len(self._line) == 1:
            task, state, place = fresh
            if task is entry.task and state == (moment.now_s, moment.fleet.changes):
                return place
        return self._choose(entry, index, moment, held)

    def _choose(
        self, entry: Waiting, index: int, moment: Moment, held: Held
    ) -> Place | GiveUp | None:
        """Return the best level and node of a task, or its end; None where no node takes it."""
        task, choices = entry.task, entry.choices
        avoid = avoided(task, choices.offers, moment)
        if task.deadline_at_s == math.inf:
            return soonest(choices.offers[0], task, moment, avoid, held)
        remaining_s = task.deadline_at_s - moment.now_s
        most_s = choices.least_s
        if self._options.slack:
            most_s += max(0.0, self._slack.behind_s(entry, index, moment))
        for i in choices.by_worth(self._price(moment)):
            cost = choices.costs[i]
            if cost.idle_s > remaining_s or (self._options.slack and cost.work_s > most_s):
                continue
            place = soonest(choices.offers[i], task, moment, avoid, held)
            if place is not None and self._with_margin_s(place.decision, moment) <= remaining_s:
                return place
        return self._last_resort(entry, moment, avoid, held)

    def _last_resort(
        self, entry: Waiting, moment: Moment, avoid: set[str], held: Held
    ) -> Place | GiveUp | None:
        """Return the fastest level of what is predicted to be late, or its end."""
        task, choices = entry.task, entry.choices
        remaining_s = task.deadline_at_s - moment.now_s
        if choices.idle_s > remaining_s:
            late = f"{remaining_s:.3g} s are left and at least {choices.idle_s:.3g} s needed"
            return GiveUp(task, DeadlineError(late))
        found = [soonest(offer, task, moment, avoid, held) for offer in choices.offers]
        places = [place for place in found if place is not None]
        return min(places, key=lambda p: p.decision.predicted_finish_s, default=None)

    def _expected(self, entry: Waiting, moment: Moment) -> Decision:
        """Return what a new task would get now, for its client to know."""
        waiting = len(self._line)
        if waiting and not moment.has_room:
            return self._queued(entry, moment)
        place = self._choose(entry, waiting, moment, NOTHING_HELD)
        if place is None:
            raise UnavailableError("no node that could make this image is connected")
        if isinstance(place, GiveUp):
            raise place.error
        if not waiting:
            self._fresh = entry.task, (moment.now_s, moment.fleet.changes), place
            return place.decision
        finish_s = place.decision.predicted_finish_s + self._wait_s(entry, moment)
        return Decision(place.decision.offer, place.decision.node, finish_s)

    def _queued(self, entry: Waiting, moment: Moment) -> Decision:
        """Return what a task would get behind those who wait, as far as it can be told."""
        choices = entry.choices
        remaining_s = entry.task.deadline_at_s - moment.now_s
        wait_s = self._wait_s(entry, moment)
        avoid = avoided(entry.task, choices.offers, moment)
        best: Decision | None = None
        for i in choices.by_worth(self.price if remaining_s < math.inf else 0.0):
            place = soonest(choices.offers[i], entry.task, moment, avoid)
            if place is None:
                continue
            finish_s = wait_s + place.decision.predicted_finish_s
            if best is None or finish_s < best.predicted_finish_s:
                best = Decision(choices.offers[i], place.decision.node, finish_s)
            if finish_s <= remaining_s:
                return Decision(choices.offers[i], place.decision.node, finish_s)
        if best is None:
            raise UnavailableError("no node that could make this image is connected")
        return best

    def _wait_s(self, entry: Waiting, moment: Moment) -> float:
        """Return the seconds in which those before a new task would be worked through."""
        all_s = self._pricing.waiting_s(self.price)
        before = self._line.share_before(entry.key)
        return before * all_s / moment.nodes if moment.nodes else 0.0

    def _make_way(self, entry: Waiting, moment: Moment) -> None:
        """Let tasks go until all can be on time at their fastest levels, the new one with them.

        Raises:
            OverloadedError: the new task is the one that is worth least.
        """
        finish_s = self._fastest_s(entry, moment)
        while (short := self._slack.short(entry, finish_s, moment)) is not None:
            able = (self._line[i] for i in range(min(short.before, len(self._line))))
            others = [x for x in able if x.task.deadline_at_s < math.inf and not x.task.lost]
            least = min(others, key=_density, default=entry)
            retry_s = max(SHORTEST_RETRY_S, short.seconds)
            if _density(least) >= _density(entry):
                remaining_s = entry.task.deadline_at_s - moment.now_s
                raise OverloadedError(
                    f"no acceptable level can be done in {remaining_s:g} s now; the fastest needs "
                    f"{remaining_s + short.seconds:.3g} s",
                    retry_after_s=retry_s,
                )
            self._remove(least)
            worth_less = "not all who wait can be on time, and this one is worth least"
            self._let_go.append(
                GiveUp(least.task, OverloadedError(worth_less, retry_after_s=retry_s))
            )

    def _fastest_s(self, entry: Waiting, moment: Moment) -> float:
        """Return the predicted seconds of the fastest level, were it next."""
        avoid = avoided(entry.task, entry.choices.offers, moment)
        remaining_s = entry.task.deadline_at_s - moment.now_s
        best_s = math.inf
        for offer in entry.choices.by_speed():
            place = soonest(offer, entry.task, moment, avoid)
            if place is not None:
                best_s = min(best_s, place.decision.predicted_finish_s)
            if best_s + self._ahead_s(moment) <= remaining_s:
                break
        return best_s

    def _ahead_s(self, moment: Moment) -> float:
        return self._line.least_sum_s / moment.nodes

    def _with_margin_s(self, decision: Decision, moment: Moment) -> float:
        kind = moment.fleet[decision.node].info.device_name
        return decision.predicted_finish_s * self._margins.factor(kind)

    # -- bookkeeping ----------------------------------------------------------------------------

    def _moment(self, fleet: Fleet, now_s: float) -> Moment:
        moment = Moment(fleet, now_s)
        if fleet.epoch != self._epoch:
            self._epoch = fleet.epoch
            self._renew(fleet)
        return moment

    def _price(self, moment: Moment) -> float:
        if self._options.price:
            self.price = self._pricing.price(moment.running_s, moment.nodes, moment.now_s)
        return self.price

    def _choices(self, task: Task, fleet: Fleet) -> Choices | None:
        qualities: Sequence[float]
        if not self._options.predictor:
            qualities = [offer.level.quality for offer in task.offers]
        elif self._recalibrate is not None:
            qualities = self._recalibrate(task.offers)
        else:
            qualities = [offer.quality for offer in task.offers]
        return choices_of(task.offers, qualities, fleet, task.deadline_at_s < math.inf)

    def _add(self, entry: Waiting) -> None:
        self._line.add(entry)
        self._entries[entry.task.id] = entry
        self._pricing.wait(entry.choices)

    def _remove(self, entry: Waiting) -> None:
        self._line.remove(entry)
        del self._entries[entry.task.id]
        self._pricing.leave(entry.choices)

    def _renew(self, fleet: Fleet) -> None:
        """Look anew at what waiting tasks may become: a node came, went or drains."""
        for entry in self._line:
            choices = self._choices(entry.task, fleet)
            if choices is not None:
                self._remove(entry)
                self._add(Waiting(entry.task, choices, entry.key))


def make_argus(options: PolicyOptions) -> ArgusPolicy:
    """Return the policy with the settings that all policies share."""
    return ArgusPolicy(ArgusOptions(shed=options.shed), options.recalibrate)


def _density(entry: Waiting) -> float:
    return entry.choices.least_quality / entry.choices.least_s
