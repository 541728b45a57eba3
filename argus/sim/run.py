"""`argus simulate` from its files to its figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argus.control.policies import PolicyOptions, make
from argus.errors import ConfigError, InvalidArgumentError
from argus.sim.engine import simulate
from argus.sim.files import read_prompts, write_outcome
from argus.sim.logs import read_trace, rescaled
from argus.sim.profile import parse_profile
from argus.sim.published import published_profile
from argus.sim.report import bound, summary
from argus.sim.setting import NodeLoss, SimSetting
from argus.sim.types import SimProfile


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be simulated.

    Attributes:
        trace, prompts, profile: files.
        policy: a name.
        options: of the policy.
        setting: the true cluster.
        seed: of chance on nodes, and of what a trace leaves open.
        perfect: whether predictions are replaced by the truth.
        rate: arrivals a second that the trace is stretched to; None: as it is.
        log: file for every arrival's end; None: none.
        with_bound: whether the bound is worked out.
    """

    trace: Path
    prompts: Path
    profile: Path
    policy: str
    options: PolicyOptions
    setting: SimSetting
    seed: int = 0
    perfect: bool = False
    rate: float | None = None
    log: Path | None = None
    with_bound: bool = True


def run(job: Job) -> dict[str, Any]:
    """Simulate a job, write its log, and return its figures, ready for JSON.

    Raises:
        ConfigError: a file is wrong; names file, line and field.
        NotFoundError: there is no such policy.
        InvalidArgumentError: inputs do not fit together.
    """
    policy = make(job.policy, job.options)
    profile = read_profile(job.profile)
    prompts = read_prompts(job.prompts, [level.name for level in profile.levels])
    trace = read_trace(job.trace, prompts, job.seed)
    if job.rate is not None:
        trace = rescaled(trace, job.rate)
    told = prompts.perfect() if job.perfect else prompts
    outcome = simulate(trace, told, profile, policy, job.setting, job.seed)
    if job.log is not None:
        write_outcome(job.log, outcome)
    figures = {
        "policy": job.policy,
        "nodes": job.setting.nodes,
        "slo_s": profile.slo_s if job.setting.slo_s is None else job.setting.slo_s,
        "seed": job.seed,
        "predictions": "perfect" if job.perfect else "noisy",
        **summary(outcome, profile),
    }
    if job.with_bound:
        figures["bound"] = bound(trace, prompts, profile, job.setting)
    return figures


def read_profile(path: Path) -> SimProfile:
    """Return the profile in a file.

    Raises:
        ConfigError: names the file and the field that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_profile(text, str(path))


def profile_or_published(path: Path | None) -> SimProfile:
    """Return the profile in a file, or the published one."""
    return published_profile() if path is None else read_profile(path)


def parse_loss(text: str, flag: str) -> NodeLoss:
    """Return the loss written as NODE@FROM or NODE@FROM-TO, seconds of the trace.

    Raises:
        InvalidArgumentError: names `flag`.
    """
    node, _, when = text.partition("@")
    try:
        index = int(node)
        start, end = parse_interval(when, flag) if "-" in when else (float(when), None)
    except ValueError:
        raise InvalidArgumentError(
            flag, f"must be NODE@FROM or NODE@FROM-TO, seconds, not {text!r}"
        ) from None
    return NodeLoss(index, start) if end is None else NodeLoss(index, start, end)


def parse_interval(text: str, flag: str) -> tuple[float, float]:
    """Return the interval written as FROM-TO, seconds of the trace.

    Raises:
        InvalidArgumentError: names `flag`.
    """
    start, _, end = text.partition("-")
    try:
        interval = float(start), float(end)
    except ValueError:
        raise InvalidArgumentError(flag, f"must be FROM-TO, seconds, not {text!r}") from None
    if not 0 <= interval[0] < interval[1]:
        raise InvalidArgumentError(flag, f"must end after it begins: {text!r}")
    return interval
