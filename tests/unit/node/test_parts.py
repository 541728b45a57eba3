"""Outbox, translation, device and building, without a coordinator."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from argus.cache.fingerprint import folder_fingerprint
from argus.config import Config, NodeConfig
from argus.diffusion.adapter import load_variant
from argus.diffusion.folder import own_defaults
from argus.diffusion.size import folder_weights_bytes
from argus.engine.events import (
    FailureReason,
    RowDone,
    RowEvent,
    RowFailed,
    RowPreview,
    RowStarted,
    RowStep,
    RowWarning,
)
from argus.engine.stats import EngineStats
from argus.errors import (
    ArgusError,
    ConfigError,
    InternalError,
    InvalidArgumentError,
    ModelError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.node.build import build_node
from argus.node.device import open_device
from argus.node.outbox import Outbox
from argus.node.translate import event_message, heartbeat_message, refusal
from argus.v1 import cluster_pb2


async def drain(outbox: Outbox) -> list[cluster_pb2.JoinRequest]:
    outbox.close()
    messages = []
    while (message := await outbox.get()) is not None:
        messages.append(message)
    return messages


async def test_progress_merges_and_everything_else_stays_in_order() -> None:
    outbox = Outbox()
    for step in range(1, 50):
        outbox.put(event_message("a", 1, RowStep(step, 50, 2)))
        outbox.put(event_message("b", 1, RowStep(step, 50, 2)))
        outbox.put(heartbeat_message(step, EngineStats(0, 0, 0, 0, 0, 0.0, 0, 0, True, (), 1.0)))
    for name in ("x", "y"):
        outbox.put(event_message("a", 1, RowWarning(name, name)))
    outbox.put(event_message("a", 1, RowDone(b"png", 1.0, 2)))
    messages = await drain(outbox)
    assert len(messages) == 6
    assert messages[0].heartbeat.sequence == 49
    assert messages[1].event.step.step == 49
    assert [m.event.WhichOneof("event") for m in messages[3:]] == ["warning", "warning", "done"]


async def test_an_outbox_wakes_who_waits() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.put(event_message("a", 2, RowStarted(0.5)))
    message = await waiting
    assert message is not None
    assert (message.event.request_id, message.event.attempt) == ("a", 2)
    ended = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.close()
    assert await ended is None


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (RowStarted(0.25), "started"),
        (RowStep(3, 20, 6), "step"),
        (RowPreview(3, b"jpeg"), "preview"),
        (RowWarning("CODE", "words"), "warning"),
        (RowDone(b"png", 2.5, 8), "done"),
        (RowFailed(FailureReason.LATE, "late"), "failed"),
    ],
)
def test_every_event_has_a_message(event: RowEvent, kind: str) -> None:
    work = event_message("id", 3, event).event
    assert work.WhichOneof("event") == kind
    if isinstance(event, RowStep):
        assert (work.step.step, work.step.steps, work.step.lanes) == (3, 20, 6)
    if isinstance(event, RowDone):
        assert (work.done.data, work.done.running_s, work.done.max_lanes) == (b"png", 2.5, 8)


def test_every_failure_reason_has_its_own_code() -> None:
    codes = {event_message("i", 1, RowFailed(r, "")).event.failed.reason for r in FailureReason}
    assert len(codes) == len(FailureReason)
    assert cluster_pb2.WORK_FAILURE_UNSPECIFIED not in codes


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OverloadedError("full", 1.0), FailureReason.FULL),
        (UnavailableError("leaving"), FailureReason.DRAINING),
        (InvalidArgumentError("steps", "too many"), FailureReason.INVALID),
        (NotFoundError("variant", "x", ["y"]), FailureReason.INVALID),
        (InternalError("oops"), FailureReason.INTERNAL),
    ],
)
def test_refusals_keep_their_reason(error: ArgusError, reason: FailureReason) -> None:
    assert refusal(error) == RowFailed(reason, str(error))


def test_devices_that_do_not_exist_are_refused() -> None:
    assert open_device(NodeConfig(device="cpu")).dtype is torch.float32
    assert open_device(NodeConfig(device="cpu", dtype="bfloat16")).dtype is torch.bfloat16
    with pytest.raises(ConfigError, match=r"node\.device"):
        open_device(NodeConfig(device="abacus"))
    with pytest.raises(ConfigError, match="not served"):
        open_device(NodeConfig(device="meta"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="use --device cpu"):
            open_device(NodeConfig(device="cuda:0"))


def test_a_node_describes_what_it_measured(tiny_folders: dict[str, Path]) -> None:
    models = tuple(str(folder) for folder in tiny_folders.values())
    config = NodeConfig(models=models, device="cpu", name="n1", slots=4)
    node = build_node(Config(node=config))
    info = node.info
    try:
        assert info.name == "n1"
        assert [variant.name for variant in info.variants] == list(tiny_folders)
        for variant, costs in zip(info.variants, info.costs, strict=True):
            assert (variant.width, variant.size_multiple, variant.max_size) == (32, 8, 64)
            assert min(costs.steps.seconds) > 0
            assert costs.decode_s > 0
            assert costs.text_encode_s > 0
            assert variant.weights == folder_fingerprint(tiny_folders[variant.name])
        assert info.memory_bytes > 2**28
    finally:
        node.close()


def test_two_folders_of_one_name_are_refused(tiny_folders: dict[str, Path]) -> None:
    folder = str(tiny_folders["tiny-v"])
    with pytest.raises(ModelError, match="already loaded"):
        build_node(Config(node=NodeConfig(models=(folder, folder), device="cpu")))


def test_a_folder_may_state_its_own_defaults(tiny_folders: dict[str, Path]) -> None:
    folder, cpu = tiny_folders["tiny-eps"], torch.device("cpu")
    settings = folder / "argus.json"
    try:
        settings.write_text('{"default_steps": 12, "default_guidance": 3.5}')
        info = load_variant(folder, cpu, torch.float32).info
        assert (info.default_steps, info.default_guidance) == (12, 3.5)
        settings.write_text('{"default_stepz": 12}')
        with pytest.raises(ModelError, match="default_stepz"):
            load_variant(folder, cpu, torch.float32)
        settings.write_text("[]")
        with pytest.raises(ModelError, match="JSON object"):
            load_variant(folder, cpu, torch.float32)
    finally:
        settings.unlink()


def test_a_budget_in_which_some_variant_can_never_fit_is_refused_before_anything_is_loaded(
    tiny_folders: dict[str, Path],
) -> None:
    models = tuple(str(folder) for folder in tiny_folders.values())
    sizes = {name: folder_weights_bytes(f, 4) for name, f in tiny_folders.items()}
    budget = sum(sizes.values()) - 1
    config = NodeConfig(models=models, device="cpu", weights_bytes=budget, pinned=("tiny-v",))
    with pytest.raises(ModelError, match=r"weights_bytes: tiny-eps beside the pinned tiny-v takes"):
        build_node(Config(node=config))
    config = NodeConfig(models=models, device="cpu", weights_bytes=1000)
    with pytest.raises(ModelError, match=r"weights_bytes: tiny-eps takes"):
        build_node(Config(node=config))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"default_steps": 0}', "default_steps must be 1 to 1,000, not 0"),
        ('{"default_steps": 2.5}', "default_steps must be 1 to 1,000, not 2.5"),
        ('{"default_guidance": -2}', "default_guidance must be 0 to 50, not -2"),
        ('{"default_guidance": "high"}', "default_guidance must be 0 to 50, not 'high'"),
    ],
)
def test_a_folders_own_defaults_are_checked_where_they_are_read(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "argus.json").write_text(text)
    with pytest.raises(ModelError, match=f"argus.json: {message}"):
        own_defaults(tmp_path)
