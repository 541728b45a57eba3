"""One typed configuration: defaults < TOML file < ARGUS_* environment < flags.

Nothing else in Argus reads the environment. A setting is named `section.field` in messages,
`[section] field = …` in the file and `ARGUS_SECTION_FIELD` in the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from argus.errors import ConfigError
from argus.priority import LOWEST

MAX_LEASE_S = 600.0


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """The coordinator. Times in seconds."""

    bind: str = "127.0.0.1:7420"
    levels: str = ""
    """Level file (JSON); empty: the one beside the bundled family, or reference levels only."""
    policy: str = "argus"
    """What decides on level, node and order; docs/control.md has the names."""
    predictor: str = ""
    """Folder of a fitted predictor of quality; empty: the one beside the bundled family, which
    knows its levels only. Of levels that no predictor knows the stated mean is what is expected."""
    lease_s: float = 3.0
    heartbeat_interval_s: float = 0.5
    max_in_flight: int = 1024
    max_attempts: int = 3
    result_ttl_s: float = 60.0
    result_bytes: int = 64 * 2**20
    reattach_grace_s: float = 1.0
    """How long a request nobody listens to any more waits for its client to come back."""
    adopted_grace_s: float = 10.0
    """How long a row that a node brought from another coordinator waits for its client."""
    drain_grace_s: float = 30.0
    metrics: str = ""
    """HOST:PORT of /metrics; off: none; empty: 127.0.0.1:7422, or the next free port."""
    node_wait_s: float = 120.0
    """How long an accepted request waits for a node when there is none; loading models and
    warming up takes a node that is started again a while."""
    insecure: bool = False
    """Listen beyond loopback without TLS, or without asking for keys or certificates."""
    standby: bool = False
    """Lead only while no other coordinator of the same cluster does; see [standby]."""
    state_file: str = ""
    """Where what was learned is kept over a restart, without a stand-by; empty: nowhere."""


@dataclass(frozen=True, slots=True)
class StandbyConfig:
    """What coordinators that stand by for each other share; docs/operations.md."""

    postgres: str = field(default="", repr=False)
    """Connection string of the PostgreSQL (14 or newer) that says which of them leads."""
    cluster: str = "argus"
    """Name of the cluster, where several use one database."""
    lease_s: float = 5.0
    """Silence of the leader, towards the database, after which another one leads."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The HTTP gateway; docs/gateway.md. Times in seconds."""

    bind: str = ""
    """HOST:PORT; off: `argus up` starts none; empty: 127.0.0.1:7421, or the next free port."""
    coordinator: str = "127.0.0.1:7420"
    """HOST:PORT; several, separated by commas, stand by for each other."""
    max_images: int = 10
    """Most images of one request."""
    max_in_flight: int = 256
    """Images being made for HTTP clients at once; beyond, refusal with a retry time."""
    max_connections: int = 1024
    max_body_bytes: int = 256 * 2**10
    body_timeout_s: float = 10.0
    """How long a request's body may take to arrive."""
    poll_s: float = 1.0
    """How often the coordinator is asked for the state that the dashboard shows."""
    drain_grace_s: float = 30.0
    tls: bool = False
    """Serve HTTPS with tls.certificate and tls.key."""
    insecure: bool = False
    """Listen beyond loopback without TLS, or without asking for keys."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A node daemon. One per GPU, or per CPU worker."""

    coordinator: str = "127.0.0.1:7420"
    """HOST:PORT; several, separated by commas, stand by for each other."""
    name: str = ""
    """Unique name; empty: host name and process id."""
    models: tuple[str, ...] = ()
    """Diffusers folders to keep resident; empty: the bundled family."""
    device: str = "auto"
    """cpu, cuda, cuda:N, or auto."""
    dtype: str = "auto"
    """float32, float16, bfloat16, or auto: float32 on the CPU, float16 on CUDA."""
    threads: int = 0
    """Compute threads on the CPU; 0: torch's own choice."""
    nice: int = 0
    """Niceness, 0 to 19: how far other processes of the machine come before this one."""
    slots: int = 16
    max_lanes: int = 8
    max_waiting: int = 64
    pinned: tuple[str, ...] = ()
    """Variants that are never parked when memory is short, by name."""
    weights_bytes: int = 0
    """Budget of weights on the device; variants beyond it are parked and moved in when rows want
    them. 0: four fifths of a CUDA device's memory, and no limit on the CPU."""
    host_bytes: int = 0
    """Budget of parked weights in host memory; beyond it they are read from disk again."""
    graphs: bool = True
    """Whether CUDA graphs are captured; without effect on the CPU."""
    kernels: bool = True
    """Whether own kernels are used on CUDA where they were measured to win."""
    drain_grace_s: float = 30.0
    reconnect_s: float = 30.0
    """How long to try to reach the coordinator again before giving up; rows go on meanwhile."""
    kept_s: float = 15.0
    """How long a picture is kept after it was sent: its coordinator may die before its client has
    it."""
    kept_bytes: int = 64 * 2**20
    """Most bytes of pictures kept: of those that were sent, and of those that no coordinator was
    there for."""
    metrics: str = ""
    """HOST:PORT of the node's own /metrics; empty: none, since the coordinator shows all nodes."""


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The approximate cache, of the coordinator and of nodes; docs/cache.md. Sizes in bytes."""

    mode: str = "deadline"
    """off; deadline: states are used for requests with a deadline; always: for all of them."""
    embedder: str = ""
    """Folder of the text encoder that says which prompts are alike; empty: the bundled family's,
    which serves the bundled variants only."""
    folder: str = ""
    """Where nodes keep states and the coordinator its index; empty: in memory only."""
    server: str = ""
    """PostgreSQL with pgvector that several machines share, as a connection string; empty: none."""
    memory_bytes: int = 256 * 2**20
    disk_bytes: int = 4 * 2**30
    server_bytes: int = 64 * 2**30
    policy: str = "benefit"
    """What is evicted first: the least benefit, lru or fifo."""
    ttl_s: float = 0.0
    """Age at which an entry goes whatever its use; 0: never."""
    state_wait_s: float = 0.5
    """How long a row waits for its state before it runs every step."""
    look_up_s: float = 0.5
    """A look-up that takes longer finds nothing; the request is waiting for it."""
    shared_tenants: tuple[str, ...] = ()
    """Tenants that read and write one common pool instead of their own."""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS of the coordinator's port, and of those who dial it; docs/security.md. PEM files."""

    certificate: str = ""
    """What the coordinator shows, its chain included; empty: it speaks no TLS."""
    key: str = ""
    client_ca: str = ""
    """Whose certificates everyone who dials the coordinator must show; empty: none is asked for."""
    ca: str = ""
    """Whose certificates are trusted when dialling; system: the public ones; empty: no TLS."""
    client_certificate: str = ""
    """What is shown when dialling a coordinator that asks for it."""
    client_key: str = ""
    server_name: str = ""
    """Name that the coordinator's certificate bears, where it is dialled by another."""
    insecure: bool = False
    """Let a key cross the network without TLS when dialling."""


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Keys and tenants; docs/security.md."""

    keys: str = ""
    """File of the keys that the coordinator knows, made by `argus keys`; empty: it asks none."""
    tenants: str = ""
    """TOML file of tenants: shares and limits; empty: all have the same share and no limit."""
    api_key: str = field(default="", repr=False)
    """What nodes and commands show when they dial the coordinator."""
    api_key_file: str = ""
    """File that holds it instead."""


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Watching live pictures, by the coordinator; docs/quality.md."""

    shadow_share: float = 0.0
    """Share of the pictures made below the reference level that are made again at it when the
    cluster is idle, and compared, 0 … 1; 0: none."""
    shadow_in_flight: int = 1
    """Most such pictures at a time."""
    scorer: str = "facts"
    """What compares them: facts (the bundled family's world), clip, pickscore or qualiclip."""
    clip: str = ""
    """Folder of the scorer's CLIP model; empty: the bundled family's."""
    live_folder: str = ""
    """Where scores are kept, with their prompts, for `argus fit`; empty: nowhere."""
    live_rows: int = 20_000
    """Most rows kept there, two for each comparison; the oldest go first."""


@dataclass(frozen=True, slots=True)
class RayConfig:
    """Node daemons as actors of a Ray cluster; docs/ray.md."""

    address: str = ""
    """auto, HOST:PORT or ray://HOST:PORT of the cluster; empty: nodes run on this machine."""
    cpus: int = 0
    """Ray's CPUs that each daemon takes and computes on; 0: each takes a GPU instead."""
    advertise: str = ""
    """HOST or HOST:PORT at which Ray's nodes reach the coordinator; empty: where it listens."""
    files_on_nodes: bool = False
    """Ray's nodes have the files that tls and auth name; otherwise what is in them is sent."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Logging."""

    level: str = "info"
    format: str = "text"
    """text, or json: one object a line."""
    prompts: bool = False
    """Log the prompt of every request that is accepted."""


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """OpenTelemetry traces, of every process; docs/dials.md."""

    endpoint: str = ""
    """Collector that spans are sent to by OTLP over gRPC: http://HOST:PORT, or https:// with TLS;
    empty: nothing is traced."""
    share: float = 1.0
    """Share of the requests that are traced where whoever asks does not say, 0 … 1."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set."""

    coordinator: CoordinatorConfig = field(default_factory=CoordinatorConfig)
    standby: StandbyConfig = field(default_factory=StandbyConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    node: NodeConfig = field(default_factory=NodeConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    log: LogConfig = field(default_factory=LogConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)


def load_config(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Merge the sources into one Config.

    Args:
        file: TOML file, or None.
        environment: variables; the process environment when None.
        flags: `{"section.field": value}`; None values are ignored.

    Raises:
        ConfigError: an unknown setting, a value of the wrong type or out of range.
    """
    sections = typing.get_type_hints(Config)
    known = {
        f"{section}.{name}": hint
        for section, kind in sections.items()
        for name, hint in typing.get_type_hints(kind).items()
    }
    values: dict[str, Any] = {}
    if file is not None:
        values |= _from_file(file, known)
    values |= _from_environment(os.environ if environment is None else environment, known)
    for name, value in (flags or {}).items():
        if value is not None:
            values[name] = _convert(_require(name, known, "flag"), value, known[name])
    config = Config(
        **{
            section: kind(
                **{n.split(".")[1]: v for n, v in values.items() if n.split(".")[0] == section}
            )
            for section, kind in sections.items()
        }
    )
    _check(config)
    return config


def _from_file(file: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {file}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"config file {file}: {error}") from error
    values: dict[str, Any] = {}
    for section, settings in data.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"config file {file}: {section!r} must be a [section]")
        for name, value in settings.items():
            full = _require(f"{section}.{name}", known, f"config file {file}")
            values[full] = _convert(full, value, known[full])
    return values


def _from_environment(environment: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    names = {"ARGUS_" + name.replace(".", "_").upper(): name for name in known}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith("ARGUS_"):
            continue
        if variable not in names:
            raise ConfigError(f"environment: unknown variable {variable}{_near(variable, names)}")
        values[names[variable]] = _convert(variable, text, known[names[variable]])
    return values


def _require(name: str, known: Mapping[str, Any], where: str) -> str:
    if name not in known:
        raise ConfigError(f"{where}: unknown setting {name!r}{_near(name, known)}")
    return name


def _near(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _convert(name: str, value: Any, kind: Any) -> Any:
    """Return `value` as `kind`; strings are parsed, other types must already fit."""
    if isinstance(kind, types.GenericAlias):  # tuple[str, ...]
        parts = value.split(os.pathsep) if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
            raise ConfigError(f"{name}: a list of strings is needed, not {value!r}")
        return tuple(p for p in parts if p)
    if kind is bool and isinstance(value, str):
        return _truth(name, value)
    try:
        if kind is bool and not isinstance(value, bool):
            raise ValueError
        if kind is int and (isinstance(value, bool) or (isinstance(value, float) and value % 1)):
            raise ValueError
        if kind is str and not isinstance(value, str):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {kind.__name__} needed, not {value!r}") from error


def _truth(name: str, text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
        raise ConfigError(f"{name}: true or false needed, not {text!r}")
    return words[text.lower()]


def _check(config: Config) -> None:
    """Raise ConfigError where a value makes no sense."""
    coordinator, gateway, node = config.coordinator, config.gateway, config.node
    positive = {
        "coordinator.lease_s": coordinator.lease_s,
        "coordinator.heartbeat_interval_s": coordinator.heartbeat_interval_s,
        "coordinator.max_in_flight": coordinator.max_in_flight,
        "coordinator.max_attempts": coordinator.max_attempts,
        "gateway.max_images": gateway.max_images,
        "gateway.max_in_flight": gateway.max_in_flight,
        "gateway.max_connections": gateway.max_connections,
        "gateway.max_body_bytes": gateway.max_body_bytes,
        "gateway.body_timeout_s": gateway.body_timeout_s,
        "gateway.poll_s": gateway.poll_s,
        "node.slots": node.slots,
        "node.max_lanes": node.max_lanes,
        "node.max_waiting": node.max_waiting,
    }
    for name, value in positive.items():
        if not value > 0:
            raise ConfigError(f"{name}: must be above 0, not {value}")
    not_negative = {
        "coordinator.result_ttl_s": coordinator.result_ttl_s,
        "coordinator.result_bytes": coordinator.result_bytes,
        "coordinator.reattach_grace_s": coordinator.reattach_grace_s,
        "coordinator.adopted_grace_s": coordinator.adopted_grace_s,
        "coordinator.drain_grace_s": coordinator.drain_grace_s,
        "coordinator.node_wait_s": coordinator.node_wait_s,
        "gateway.drain_grace_s": gateway.drain_grace_s,
        "node.drain_grace_s": node.drain_grace_s,
        "node.reconnect_s": node.reconnect_s,
        "node.kept_s": node.kept_s,
        "node.kept_bytes": node.kept_bytes,
        "node.threads": node.threads,
        "node.weights_bytes": node.weights_bytes,
        "node.host_bytes": node.host_bytes,
    }
    for name, value in not_negative.items():
        if not value >= 0:
            raise ConfigError(f"{name}: must not be below 0, not {value}")
    if coordinator.lease_s < 2 * coordinator.heartbeat_interval_s:
        raise ConfigError(
            f"coordinator.lease_s: must be at least twice heartbeat_interval_s "
            f"({coordinator.heartbeat_interval_s}), not {coordinator.lease_s}"
        )
    _check_node(node)
    _check_standby(config)
    _check_cache(config.cache)
    _check_tls(config.tls)
    _check_quality(config.quality)
    _check_ray(config.ray)
    _check_tracing(config.tracing)
    if config.log.level not in {"debug", "info", "warning", "error"}:
        raise ConfigError(
            f"log.level: must be debug, info, warning or error, not {config.log.level!r}"
        )
    if config.log.format not in {"text", "json"}:
        raise ConfigError(f"log.format: must be text or json, not {config.log.format!r}")


def _check_node(node: NodeConfig) -> None:
    if not 0 <= node.nice <= LOWEST:
        raise ConfigError(f"node.nice: must be 0 to {LOWEST}, not {node.nice}")
    if node.max_lanes < 2:
        raise ConfigError("node.max_lanes: must be at least 2, the lanes of one guided row")
    if node.dtype not in {"auto", "float32", "float16", "bfloat16"}:
        raise ConfigError(
            f"node.dtype: must be auto, float32, float16 or bfloat16, not {node.dtype!r}"
        )


def _check_standby(config: Config) -> None:
    standby = config.standby
    if config.coordinator.standby and not standby.postgres:
        raise ConfigError("standby.postgres: is needed where coordinators stand by")
    if not standby.cluster:
        raise ConfigError("standby.cluster: must not be empty")
    if not 1.0 <= standby.lease_s <= MAX_LEASE_S:
        raise ConfigError(
            f"standby.lease_s: must be 1 to {MAX_LEASE_S:g} seconds, not {standby.lease_s}"
        )


def _check_cache(cache: CacheConfig) -> None:
    if cache.mode not in {"off", "deadline", "always"}:
        raise ConfigError(f"cache.mode: must be off, deadline or always, not {cache.mode!r}")
    if cache.policy not in {"benefit", "lru", "fifo"}:
        raise ConfigError(f"cache.policy: must be benefit, lru or fifo, not {cache.policy!r}")
    for name in ("memory_bytes", "disk_bytes", "server_bytes"):
        if getattr(cache, name) < 1:
            raise ConfigError(f"cache.{name}: must be above 0, not {getattr(cache, name)}")
    if cache.ttl_s < 0:
        raise ConfigError(f"cache.ttl_s: must not be below 0, not {cache.ttl_s}")
    for name in ("state_wait_s", "look_up_s"):
        if not getattr(cache, name) > 0:
            raise ConfigError(f"cache.{name}: must be above 0, not {getattr(cache, name)}")


def _check_tls(tls: TlsConfig) -> None:
    if bool(tls.certificate) != bool(tls.key):
        raise ConfigError("tls.certificate and tls.key: one needs the other")
    if tls.client_ca and not tls.certificate:
        raise ConfigError("tls.client_ca: needs tls.certificate and tls.key")
    if bool(tls.client_certificate) != bool(tls.client_key):
        raise ConfigError("tls.client_certificate and tls.client_key: one needs the other")


def _check_ray(ray: RayConfig) -> None:
    if ray.cpus < 0:
        raise ConfigError(f"ray.cpus: must not be below 0, not {ray.cpus}")


def _check_quality(quality: QualityConfig) -> None:
    if not 0 <= quality.shadow_share <= 1:
        raise ConfigError(f"quality.shadow_share: must be 0 … 1, not {quality.shadow_share}")
    if quality.shadow_in_flight < 1:
        raise ConfigError(
            f"quality.shadow_in_flight: must be at least 1, not {quality.shadow_in_flight}"
        )
    if quality.scorer not in {"facts", "clip", "pickscore", "qualiclip"}:
        raise ConfigError(
            f"quality.scorer: must be facts, clip, pickscore or qualiclip, not {quality.scorer!r}"
        )
    if quality.live_rows < 4:
        raise ConfigError(f"quality.live_rows: must be at least 4, not {quality.live_rows}")


def _check_tracing(tracing: TracingConfig) -> None:
    if tracing.endpoint and not re.fullmatch(r"https?://[^/\s]+", tracing.endpoint):
        raise ConfigError(
            f"tracing.endpoint: must be http://HOST:PORT or https://HOST:PORT, not "
            f"{tracing.endpoint!r}"
        )
    if not 0 <= tracing.share <= 1:
        raise ConfigError(f"tracing.share: must be 0 … 1, not {tracing.share}")
