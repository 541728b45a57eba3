"""Argus's own policy: each request at the level that is worth most at the present price.

Level and node are chosen when a node has room, for the most urgent waiting task: the level with the
highest expected `quality − price · device seconds` among those that

- are predicted to end before the deadline, whoever joins them on their node meanwhile
  (`argus.control.filling`), with a margin learned from rows that ended, and
- leave the tasks behind enough time at their fastest levels (`argus.control.slack`).

The price follows the backlog (`argus.control.pricing`). Where even the fastest levels of all who
wait cannot be on time, the one that loses least quality for the device seconds it frees is let go.

Where several tenants wait, the task that is looked at next is the most urgent one of the tenant
whose turn it is (`argus.control.turns`), as long as nobody who was accepted becomes late by it; and
who is let go is one of the tenant that has most beyond its share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from argus.control.admission import NO_NODE, check_possible
from argus.control.choices import Choices, choices_of
from argus.control.fairness import Share, equal_shares
from argus.control.fleet import Fleet
from argus.control.foresight import Foresight, Predicted
from argus.control.hits import StateHits
from argus.control.line import Waiting, WaitingLine, urgency
from argus.control.moment import NOTHING_HELD, Held, Moment, Place, avoided, soonest
from argus.control.outlook import Outlook
from argus.control.policies.argus_options import ArgusOptions
from argus.control.policies.options import PolicyOptions, Recalibrator
from argus.control.policy import Figures, GiveUp, Start, Task
from argus.control.pricing import Pricing
from argus.control.prospects import Prospects, Wait
from argus.control.reserve import Reserve
from argus.control.rounds import FIRST, Round, Spot
from argus.control.router import Decision, takers
from argus.control.running import Running
from argus.control.shedding import Shedding
from argus.control.slack import Slack
from argus.control.throughput import Throughput
from argus.control.turns import Turns
from argus.control.waiting_room import WaitingRoom
from argus.errors import OverloadedError, UnavailableError


class ArgusPolicy:
    """See the module's text.

    Args:
        options: settings; None: the defaults.
        recalibrate: expected qualities of predicted ones; None: predictions are taken as they are.
        share_of: what each tenant is due.
    """

    def __init__(
        self,
        options: ArgusOptions | None = None,
        recalibrate: Recalibrator | None = None,
        share_of: Callable[[str], Share] = equal_shares,
    ) -> None:
        self._options = options or ArgusOptions()
        self._recalibrate = recalibrate
        self._line = WaitingLine()
        self._turns = Turns(share_of)
        self._let_go: list[GiveUp] = []
        self._foresight = Foresight(self._options.margin_share, self._options.filling)
        self._slack = Slack(self._line, self._foresight.margins, self._options.relax)
        self._pricing = Pricing(self._options.memory_s, self._options.curve_s, self._options.burst)
        self._outlook = Outlook(self._line, self._pricing)
        late_binding, shed = self._options.late_binding, self._options.shed
        self._prospects = Prospects(self._line, self._foresight, late_binding, shed)
        self._fresh: tuple[Task, tuple[float, int], Place] | None = None
        self._now: Moment | None = None
        self._epoch = -1
        self._hits = StateHits()
        self._throughput = Throughput()
        self._reserve = Reserve()
        self._waiting = WaitingRoom(self._line, self._turns, self._pricing)
        self._shedding = Shedding(
            self._waiting,
            self._line,
            self._turns,
            self._slack,
            self._outlook,
            self._prospects,
            self._reserve,
        )
        self._running = Running(self._foresight, self._throughput)
        self._fleet: Fleet | None = None
        self.price = 0.0
        """Worth of a device second in units of quality, as of the last decision."""

    # -- what comes and goes --------------------------------------------------------------------

    def admit(self, task: Task, fleet: Fleet, now_s: float) -> Decision:
        """Take a new task; see `argus.control.policy.Policy`."""
        moment = self._moment(fleet, now_s)
        # One that was decided for before was counted then, and is not let go: it lost its node.
        is_new = task.decision is None
        states = self._hits.trusted or (
            any(offer.near is not None for offer in task.offers) and self._hits.may_try(now_s)
        )
        choices = self._choices(task, fleet, states)
        remaining_s = task.deadline_at_s - now_s
        check_possible(None if choices is None else choices.idle_s, remaining_s)
        assert choices is not None, "check_possible raises where there are none"
        entry = Waiting(task, choices, urgency(task), is_new)
        if is_new:
            self._pricing.arrive(choices, remaining_s, now_s)
            hopeless = self._prospects.end(entry, now_s)
            if hopeless is not None:  # not on an idle cluster, but with others who wait
                raise OverloadedError(str(hopeless.error), retry_after_s=choices.idle_s)
        decision = self._at_once(entry, moment)
        if decision is None:
            sheds = self._options.shed and remaining_s < math.inf and is_new
            if sheds:
                self._let_go += self._shedding.make_way(entry, moment)
            decision = self._expected(entry, moment)
        if not self._options.late_binding:
            entry.bound = decision
        self._waiting.add(entry)
        return decision

    def _at_once(self, entry: Waiting, moment: Moment) -> Decision | None:
        """Return the decision for a task that can be started now, in time, if it can."""
        if self._line.entries or not moment.has_room:
            return None
        place = self._choose(entry, FIRST, moment, NOTHING_HELD)
        if not isinstance(place, Place) or not place.has_room:
            return None
        if place.decision.predicted_finish_s > entry.task.deadline_at_s - moment.now_s:
            return None
        self._fresh = entry.task, (moment.now_s, moment.fleet.changes), place
        return place.decision

    def withdraw(self, task: Task) -> None:
        """Forget a task that waits."""
        for given_up in self._let_go:
            if given_up.task is task:
                self._let_go.remove(given_up)
                return
        self._waiting.remove(self._waiting[task])

    def put_back(self, task: Task) -> None:
        """Take a started task back."""
        started = self._running.take_back(task)
        self._turns.came_back(task.tenant, started.cost_s)
        self._waiting.add(Waiting(task, started.entry.choices, urgency(task)))

    def ended(self, task: Task, now_s: float, made: bool = True) -> None:
        """Note that a started task is done, or, where nothing was `made`, failed or cancelled."""
        started = self._running.end(task, self._fleet, bool(self._line.entries), now_s, made)
        if now_s >= task.deadline_at_s:
            self._note(started.entry, True, now_s)

    def fetched(self, task: Task, hit: bool) -> None:
        """Note whether a started task found the state that its level starts from."""
        trusted = self._hits.trusted
        self._hits.note(hit)
        if not hit:
            self._running.miss(task)
        if self._hits.trusted is not trusted:
            self._epoch = -1
            self._now = None

    def plan(self, fleet: Fleet, now_s: float) -> float:
        """Work out what a device second is worth at which backlog."""
        return self._pricing.plan(self._moment(fleet, now_s).pace, now_s)

    def figures(self, now_s: float) -> Figures:
        """Return what decisions go by now."""
        return Figures(
            price=self.price,
            arrivals_per_s=self._pricing.rate.at(now_s),
            load=self._pricing.load(now_s),
            margin=self._foresight.margins.largest,
            filling=self._foresight.filling,
            reserve=self._reserve.share(now_s),
            plan_age_s=self._pricing.age_s(now_s),
        )

    def state(self, now_s: float) -> dict[str, Any]:
        """Return what was learned of rows and of what comes, ready for JSON."""
        reserve = round(self._reserve.share(now_s), 4)
        pricing = self._pricing.state(now_s)
        return self._foresight.state() | {"pricing": pricing, "reserve": reserve}

    def restore(self, state: Mapping[str, Any], at_s: float) -> None:
        """Go on with it; see `argus.control.policy.Lasting`."""
        pricing = dict(state["pricing"])
        foresight = Foresight(self._options.margin_share)
        foresight.restore(state)
        reserve = float(state.get("reserve", 0.0))
        Reserve().restore(reserve, at_s)
        self._pricing.restore(pricing, at_s)
        self._foresight.restore(state)
        self._reserve.restore(reserve, at_s)

    # -- decisions ------------------------------------------------------------------------------

    def dispatch(self, fleet: Fleet, now_s: float) -> Iterator[Start | GiveUp]:
        """Yield what to do now; see `argus.control.policy.Policy`."""
        self._running.dispatch()
        while self._let_go:
            yield self._let_go.pop()
        if not self._line.entries:
            fleet.refresh(now_s)  # what nodes have to do is reckoned from when it changed
            return
        has_room = self._moment(fleet, now_s).has_room
        yield from self._hopeless(now_s)
        if not has_room:
            return
        first = Round(self._line, self._turns, self._slack)
        yield from self._start(fleet, now_s, first)
        if first.waits_for_slot:
            second = Round(self._line, self._turns, self._slack, after=first)
            yield from self._start(fleet, now_s, second)

    def _start(self, fleet: Fleet, now_s: float, look: Round) -> Iterator[Start | GiveUp]:
        """Yield whom to start, and whom to give up, of those that a round looks at."""
        while not look.is_over:
            moment = self._moment(fleet, now_s)
            found = look.next(moment)
            if found is None:
                return
            entry, spot = found
            act = self._act(entry, spot, moment, look)
            if act is None or isinstance(act, Wait):
                look.pass_over(entry, act is Wait.FOR_SLOT)
                continue
            broken = True
            if isinstance(act, Start):
                broken = self._begin(act, entry, fleet, now_s)
            self._note(entry, broken, now_s)
            self._waiting.remove(entry)
            yield act

    def _hopeless(self, now_s: float) -> Iterator[GiveUp]:
        """Yield the ends of the most urgent tasks for which it is too late, room or not."""
        place = 0
        while place < len(self._line.entries):
            entry = self._line.entries[place]
            end = None if entry.task.held else self._prospects.end(entry, now_s)
            if end is not None:
                self._note(entry, True, now_s)
                self._waiting.remove(entry)
                yield end
            elif entry.task.held or entry.task.lost:
                place += 1
            else:
                return

    def _note(self, entry: Waiting, late: bool, now_s: float) -> None:
        """Teach the reserve whether an accepted task is in time."""
        if self._options.shed and entry.pledged and entry.task.deadline_at_s < math.inf:
            self._reserve.note(late, now_s)

    def _begin(self, act: Start, entry: Waiting, fleet: Fleet, now_s: float) -> bool:
        """Note that a task is given to a node; return whether it is likelier late than not."""
        decision, node = act.decision, fleet[act.decision.node]
        predicted = self._foresight.predict(decision, entry.task, node, now_s)
        is_late = self._foresight.is_late(predicted, entry.task, now_s)
        if not self._options.late_binding:  # as of its arrival
            predicted = Predicted(decision.predicted_finish_s, decision.predicted_finish_s)
        cost_s = self._running.begin(entry, node, decision.offer.row, predicted, now_s)
        self._turns.began(entry, cost_s)
        return is_late

    def _act(
        self, entry: Waiting, spot: Spot, moment: Moment, look: Round
    ) -> Start | GiveUp | Wait | None:
        """Return what to do with a task; None where it is worth waiting for a node."""
        place = self._place(entry, spot, moment, look)
        if not isinstance(place, Place):
            return place
        name = place.decision.node
        if place.has_room and look.may_have(name, moment.fleet):
            return Start(entry.task, place.decision)
        cost_s = moment.fleet[name].device_s(place.decision.offer.row)
        look.kept_s[name] = look.kept_s.get(name, 0.0) + cost_s
        return None

    def _bound_s(self, moment: Moment) -> Held:
        """Return the device seconds that are bound already to each node, by its name."""
        held: dict[str, float] = {}
        for entry in self._line:
            if entry.bound is not None and entry.bound.node in moment.fleet:
                cost_s = moment.fleet[entry.bound.node].device_s(entry.bound.offer.row)
                held[entry.bound.node] = held.get(entry.bound.node, 0.0) + cost_s
        return held

    def _place(
        self, entry: Waiting, spot: Spot, moment: Moment, look: Round
    ) -> Place | GiveUp | Wait | None:
        """Return the choice for a task; the one just made on its arrival, where nothing changed."""
        if entry.bound is not None and entry.bound.node in moment.fleet:
            if entry.choices.idle_s > entry.task.deadline_at_s - moment.now_s:
                return self._prospects.last_resort(entry, moment, set(), look.kept_s)
            return Place(entry.bound, moment.fleet.has_room(entry.bound.node))
        fresh, self._fresh = self._fresh, None
        if fresh is not None and len(self._line.entries) == 1:
            task, state, place = fresh
            if task is entry.task and state == (moment.now_s, moment.fleet.changes):
                return place
        return self._choose(entry, spot, moment, look.kept_s, look.idle)

    def _choose(
        self,
        entry: Waiting,
        spot: Spot,
        moment: Moment,
        held: Held,
        idle: bool = False,
    ) -> Place | GiveUp | Wait | None:
        """Return the best level and node of a task, or its end; None where no node takes it."""
        task, choices = entry.task, entry.choices
        avoid = avoided(task, choices.offers, moment)
        if task.deadline_at_s == math.inf:
            return soonest(choices.offers[0], task, moment, avoid, held)
        remaining_s = task.deadline_at_s - moment.now_s
        most_s = choices.least_s
        if self._options.slack:
            most_s += max(0.0, self._slack.behind_s(entry, spot.place, moment, spot.passes))
        for i in choices.by_worth(self._price(choices, moment)):
            cost = choices.costs[i]
            if cost.idle_s > remaining_s or (self._options.slack and cost.work_s > most_s):
                continue
            offer = choices.offers[i]
            place = self._prospects.in_time(offer, entry, moment, avoid, held)
            if place is not None:
                return place
        return self._prospects.last_resort(entry, moment, avoid, held, idle=idle)

    def _expected(self, entry: Waiting, moment: Moment) -> Decision:
        """Return what a task that waits first would get now, for its client to know."""
        if not self._options.late_binding:
            place = self._choose(entry, Spot(len(self._line)), moment, self._bound_s(moment))
            if isinstance(place, GiveUp):
                raise place.error
            found = place.decision if isinstance(place, Place) else None
        else:
            found = self._outlook.queued(entry, self.price, moment)
        if found is None:
            raise UnavailableError(NO_NODE)
        return found

    # -- bookkeeping ----------------------------------------------------------------------------

    def _moment(self, fleet: Fleet, now_s: float) -> Moment:
        if self._now is not None and self._now.is_of(fleet, now_s):
            return self._now
        moment = self._now = Moment(fleet, now_s, self._throughput.share(now_s))
        self._fleet = fleet
        if fleet.epoch != self._epoch:
            self._epoch = fleet.epoch
            self._renew(fleet)
        return moment

    def _price(self, choices: Choices, moment: Moment) -> float:
        """Return the price for a task: that at the work of all others."""
        if self._options.price and self._options.feedback:
            self.price = self._pricing.price(choices, moment.running_s, moment.pace, moment.now_s)
        elif self._options.price:
            self.price = self._pricing.planned_price
        return self.price

    def _choices(self, task: Task, fleet: Fleet, states: bool) -> Choices | None:
        qualities: Sequence[float]
        if not self._options.predictor:
            qualities = [offer.level.quality for offer in task.offers]
        elif self._recalibrate is not None:
            qualities = self._recalibrate(task.offers)
        else:
            qualities = [offer.quality for offer in task.offers]
        return choices_of(
            task.offers,
            qualities,
            fleet,
            task.deadline_at_s < math.inf,
            states=states,
            hit_chance=self._hits.chance,
        )

    def _renew(self, fleet: Fleet) -> None:
        """Look anew at what waiting tasks may become: nodes or the trust in states changed."""
        for entry in self._line:
            choices = self._choices(entry.task, fleet, self._hits.trusted)
            if choices is None:
                entry.pledged, entry.bound = False, None
                continue
            new = Waiting(entry.task, choices, entry.key)
            if entry.bound is not None and entry.bound.offer in choices.offers:
                stays = takers(entry.bound.offer, fleet)
                if entry.bound.node in [node.info.name for node in stays]:
                    new.bound = entry.bound
            self._waiting.replace(entry, new)


def make_argus(options: PolicyOptions) -> ArgusPolicy:
    """Return the policy with the settings that all policies share."""
    return ArgusPolicy(ArgusOptions(shed=options.shed), options.recalibrate, options.share_of)
