"""What a client's request must pass before anything is done for it: its tenant and its limits."""

from __future__ import annotations

import logging
from dataclasses import replace

from argus.clock import Clock
from argus.control.limits import TenantLimits, Ticket, check_terms
from argus.coordinator.catalog import Catalog
from argus.coordinator.security import Security
from argus.rpc.guard import caller
from argus.types import ImageRequest

log = logging.getLogger(__name__)


class Door:
    """Holds requests against what their tenants may do.

    Args:
        clock: where the time comes from.
        security: the tenants' terms.
        catalog: knows the size of pictures whose size was not asked for.
    """

    def __init__(self, clock: Clock, security: Security, catalog: Catalog) -> None:
        self._clock = clock
        self._security = security
        self._catalog = catalog
        self._limits = TenantLimits()

    def named(self, request: ImageRequest) -> ImageRequest:
        """Return the request with its caller's tenant in it.

        Raises:
            PermissionDeniedError: it names a tenant that is not its caller's.
        """
        return replace(request, tenant=caller().tenant_of(request.tenant))

    def enter(self, request: ImageRequest, known: bool) -> Ticket:
        """Let a request in that `named` returned; `leave` must be called when it has ended.

        Args:
            request: with its tenant.
            known: whether it is in flight, or its picture is remembered.

        Raises:
            InvalidArgumentError: it is larger than its tenant's may be.
            QuotaError: its tenant is at a limit.
        """
        now_s = self._clock.now()
        terms = self._security.terms_now(now_s).terms(request.tenant)
        pixels, steps = self._size(request)
        prompts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
        check_terms(terms, prompts, pixels, steps)
        ticket = self._limits.enter(request.tenant, terms, pixels, now_s, again=known)
        if self._security.log_prompts and not known:
            extra = {"request_id": request.request_id}
            log.info("request %s: prompt %r", request.request_id, request.prompt, extra=extra)
        return ticket

    @property
    def limits(self) -> TenantLimits:
        """Account of what tenants ask for."""
        return self._limits

    def leave(self, ticket: Ticket) -> None:
        """Note that a request has ended."""
        self._limits.leave(ticket, self._clock.now())

    def _size(self, request: ImageRequest) -> tuple[int, int]:
        """Return pixels and steps; 0 where they are those of a variant that nobody knows yet."""
        ladder, name = self._catalog.ladder, request.variant
        if not name and request.level:
            name = next((x.variant for x in ladder.all if x.name == request.level), "")
        variant = self._catalog.variants.get(name or ladder.default_variant)
        width, height, steps = request.width or 0, request.height or 0, request.steps or 0
        if variant is not None:
            width, height = width or variant.width, height or variant.height
            steps = steps or variant.default_steps
        return width * height, steps
