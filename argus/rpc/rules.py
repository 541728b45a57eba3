"""Which role each method wants, and how long its requests may be: the one table."""

from __future__ import annotations

from dataclasses import dataclass

from argus.auth.keys import Role
from argus.rpc.channel import MAX_MESSAGE_BYTES

SHORT = 4 * 2**10
PROMPTS = 64 * 2**10
"""Two prompts of 4,000 characters take 32,000 bytes at most, and the other fields are short."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method asks of its callers.

    Attributes:
        roles: any one of them is enough; None: nobody is asked who they are.
        request_bytes: longest message that is looked at.
    """

    roles: frozenset[Role] | None
    request_bytes: int = SHORT


_CLIENT = frozenset({Role.CLIENT})
_NODE = frozenset({Role.NODE})
_OPERATOR = frozenset({Role.OPERATOR})
_SOMEONE = frozenset(Role)

RULES = {
    "/argus.v1.ImageService/Generate": Rule(_CLIENT, PROMPTS),
    "/argus.v1.ImageService/ListVariants": Rule(_CLIENT | _OPERATOR),
    "/argus.v1.ClusterService/Join": Rule(_NODE, MAX_MESSAGE_BYTES),
    "/argus.v1.AdminService/GetStatus": Rule(_OPERATOR),
    "/argus.v1.AdminService/DrainNode": Rule(_OPERATOR),
    "/argus.v1.AdminService/LoadVariant": Rule(_OPERATOR),
    "/argus.v1.AdminService/UnloadVariant": Rule(_OPERATOR),
    # Probes have no keys, and a single answer says no more than serving or not.
    "/grpc.health.v1.Health/Check": Rule(None),
    # A watch holds a stream open for as long as the caller likes.
    "/grpc.health.v1.Health/Watch": Rule(_SOMEONE),
    "/grpc.health.v1.Health/List": Rule(_SOMEONE),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(_SOMEONE),
}
"""By full name. Where keys are asked for, a method that is not here is refused to everyone."""
