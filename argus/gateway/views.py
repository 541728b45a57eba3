"""What the gateway shows: models, state, health."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from argus.client import AsyncClient
from argus.client.variants import Variant
from argus.errors import ArgusError, NotFoundError
from argus.gateway.cluster import Cluster
from argus.gateway.sse import EventStream, Frame

UNCACHED = {"Cache-Control": "no-store"}


class Views:
    """Answers questions about what there is.

    Args:
        client: of the coordinator.
        cluster: as last described.
    """

    def __init__(self, client: AsyncClient, cluster: Cluster) -> None:
        self._client = client
        self._cluster = cluster
        self._start_unix_s = int(time.time())

    async def models(self, request: Request) -> Response:
        """List the variants that live nodes hold, the default first."""
        models = [self._model(variant) for variant in await self._client.variants()]
        return JSONResponse({"object": "list", "data": models}, headers=UNCACHED)

    async def model(self, request: Request) -> Response:
        """Describe one of them."""
        name = request.path_params["model"]
        variants = {variant.name: variant for variant in await self._client.variants()}
        if name not in variants:
            raise NotFoundError("model", name, variants)
        return JSONResponse(self._model(variants[name]), headers=UNCACHED)

    def _model(self, variant: Variant) -> dict[str, Any]:
        info = variant.info
        return {
            "id": info.name,
            "object": "model",
            "created": self._start_unix_s,
            "owned_by": "argus",
            "argus": {
                "pipeline": info.pipeline,
                "size": f"{info.width}x{info.height}",
                "size_multiple": info.size_multiple,
                "max_size": info.max_size,
                "samplers": info.samplers,
                "default_sampler": info.default_sampler,
                "default_steps": info.default_steps,
                "default_guidance": info.default_guidance,
                "guidance_embedded": info.guidance_embedded,
                "accepts": info.accepts,
                "levels": variant.levels,
                "nodes": variant.nodes,
            },
        }

    async def status(self, request: Request) -> Response:
        """Return the state of the cluster and how it went of late."""
        shown = {**self._cluster.shown(), "history": self._cluster.history()}
        return JSONResponse(shown, headers=UNCACHED)

    async def changes(self, request: Request) -> Response:
        """Send the state with each poll, as server-sent events."""
        return EventStream(self._changes())

    async def _changes(self) -> AsyncGenerator[Frame, None]:
        yield Frame("status", {**self._cluster.shown(), "history": self._cluster.history()})
        while await self._cluster.next_poll():
            yield Frame("status", {**self._cluster.shown(), "newest": self._cluster.newest()})

    async def health(self, request: Request) -> Response:
        """Say whether images can be made: 200 while some node takes work, else 503."""
        await self._cluster.refresh()
        try:
            nodes = self._cluster.able_nodes()
        except ArgusError as error:
            return _health(503, "unavailable", [], str(error))
        if not nodes:
            return _health(503, "unavailable", [], "no node takes work")
        return _health(200, "ok", nodes, None)

    async def alive(self, request: Request) -> Response:
        """Say that this process runs."""
        return JSONResponse({"status": "ok"}, headers=UNCACHED)


def _health(status: int, word: str, nodes: list[str], reason: str | None) -> Response:
    body = {"status": word, "nodes": nodes, "reason": reason}
    return JSONResponse(body, status, headers=UNCACHED)
