"""The door for clients."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from argus.clock import Clock
from argus.control.limits import Ticket
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.door import Door
from argus.coordinator.membership import Membership
from argus.coordinator.prompts import PromptReader, Reading
from argus.coordinator.settling import Settling
from argus.coordinator.subscription import Subscription
from argus.coordinator.views import live_variants
from argus.errors import ArgusError, InvalidArgumentError, NotFoundError, UnavailableError
from argus.rpc.bundles import bundle, gather
from argus.rpc.convert import image_request_from_proto
from argus.rpc.interceptors import Context
from argus.tracing.spans import NO_SPAN, OFF, Kind, Span, Tracer, ending, traceparent_in
from argus.types import ImageRequest
from argus.v1 import image_pb2, image_pb2_grpc


class ImageService(image_pb2_grpc.ImageServiceServicer):
    """Implements argus.v1.ImageService over the dispatcher."""

    def __init__(
        self,
        clock: Clock,
        dispatcher: Dispatcher,
        catalog: Catalog,
        membership: Membership,
        door: Door,
        settling: Settling,
        prompts: PromptReader | None = None,
        tracer: Tracer = OFF,
    ) -> None:
        self._clock = clock
        self._door = door
        self._settling = settling
        self._prompts = prompts
        self._tracer = tracer
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._membership = membership

    async def Generate(  # noqa: N802 - gRPC's name
        self, request: image_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[image_pb2.GenerateResponse]:
        """Stream the life of one request; a client that leaves frees its row."""
        came_s = self._clock.now()
        await self._settling.wait(request.request_id)
        with ending(self._span(context)) as span, contextlib.ExitStack() as leaving:
            with ending(span.child("argus.admission")):
                wanted, known, ticket = self._let_in(request)
                leaving.callback(self._door.leave, ticket)
                span.note(request_id=wanted.request_id, known=known)
                subscription = await self._submit(wanted, known, came_s, span)
            leaving.callback(self._dispatcher.unsubscribe, subscription)
            async for event in subscription:
                events = [event]
                if request.reads_bundles:
                    events = gather(event, subscription.take_waiting)
                if self._tracer.on and events[-1].HasField("image"):
                    _note_image(span, events[-1].image)
                yield bundle(events)

    def _span(self, context: Context) -> Span:
        """Begin the span of a call, which may go on with the caller's trace."""
        if not self._tracer.on:
            return NO_SPAN
        traceparent = traceparent_in(context.invocation_metadata())
        return self._tracer.start("argus.request", Kind.SERVER, traceparent)

    def _let_in(self, request: image_pb2.GenerateRequest) -> tuple[ImageRequest, bool, Ticket]:
        """Return the request, whether it is known, and its ticket, or count why there is none."""
        try:
            wanted = self._door.named(image_request_from_proto(request))
            known = self._dispatcher.knows(wanted.request_id)
            return wanted, known, self._door.enter(wanted, known)
        except ArgusError as error:
            self._dispatcher.counters.refuse(error)
            raise

    async def _submit(
        self, wanted: ImageRequest, known: bool, came_s: float, span: Span
    ) -> Subscription:
        """Return the events of a request, or count why there are none."""
        try:
            reading: Reading | None = None
            if not known:
                self._dispatcher.check_room(wanted)
            if self._prompts is not None and not known:
                ladder, variants = self._catalog.ladder, self._catalog.variants
                reading = await self._prompts.read(wanted, ladder, variants)
            near = reading.near if reading else ()
            prompt = reading.prompt if reading else None
            return self._dispatcher.submit(wanted, near, came_s, prompt, span)
        except (InvalidArgumentError, NotFoundError, UnavailableError) as error:
            # The dispatcher counts those that it has no room or no time for.
            self._dispatcher.counters.refuse(error)
            raise

    async def ListVariants(  # noqa: N802 - gRPC's name
        self, request: image_pb2.ListVariantsRequest, context: Context
    ) -> image_pb2.ListVariantsResponse:
        """List what live nodes hold, the default first."""
        return image_pb2.ListVariantsResponse(
            variants=live_variants(self._catalog, self._membership)
        )


def _note_image(span: Span, image: image_pb2.Image) -> None:
    """Note what came of a request; with that it is over, though the client may leave at once."""
    span.note(
        variant=image.variant,
        level=image.level,
        steps=image.steps,
        skipped_steps=image.skipped_steps,
        node=image.node,
        attempts=image.attempts,
        predicted_quality=image.predicted_quality,
        queued_s=image.queued_s,
    )
    span.end()
