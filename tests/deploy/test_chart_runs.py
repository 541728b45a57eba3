"""What the chart runs, run here: its settings, arguments and probes, on other paths and ports."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart import Object, Pod, Values, pods, rendered
from tests.unit.coordinator.secured import Authority

VALUES: Values = {
    "node": {
        "gpu": {"enabled": False},
        "models": {"folders": ["tiny-eps"], "volume": {"emptyDir": {}}},
    },
    "config": {
        "node": {"threads": 1, "max_lanes": 2, "slots": 2},
        "coordinator": {"drain_grace_s": 5},
        "gateway": {"drain_grace_s": 5},
    },
}
SERVER_NAME = "pics-argus-coordinator.prod.svc"
PROBED_S = 120.0
"""How long a process may take until a probe is satisfied."""
ARGUS = (sys.executable, "-P", "-m", "argus.cli.main")


@dataclass
class Machine:
    """Stands in for a pod's file system and network: each path and each port has another here."""

    folder: Path
    models: Path
    ports: dict[str, int] = field(default_factory=dict)

    def here(self, text: str, role: str) -> str:
        """Return a text of the chart's with what it names put to where that is here."""
        text = text.replace("/models/", f"{self.models}/")
        text = re.sub("/(etc|var/cache)/argus", rf"{self.folder}/{role}/\1", text)
        text = text.replace("pics-argus-coordinator:", "127.0.0.1:").replace("0.0.0.0", "127.0.0.1")
        return re.sub(r"\b742[0-9]\b", lambda port: str(self.port(port[0])), text)

    def port(self, wanted: str) -> int:
        if wanted not in self.ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.ports[wanted] = probe.getsockname()[1]
        return self.ports[wanted]

    def file(self, role: str, path: str, content: str) -> None:
        file = self.folder / role / "etc" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def mount(machine: Machine, found: dict[str, Pod]) -> str:
    """Put what Secrets and the ConfigMap hold where each pod has it; return a client's key."""
    keys = machine.folder / "keys"
    authority = Authority(machine.folder)
    authority.issue("coordinator", SERVER_NAME)
    authority.issue("gateway", "pics-argus-gateway.prod.svc")
    shown = {
        "node": new_key(keys, "--role", "node"),
        "gateway": new_key(keys, "--role", "client", "--role", "operator", "--tenant", "*"),
    }
    client = new_key(keys, "--role", "client", "--tenant", "acme")
    contents = {
        "keys/keys": lambda role: keys.read_text(),
        "key/api.key": lambda role: shown[role] + "\n",
        "ca/ca.crt": lambda role: Path(authority.file("ca")).read_text(),
        "tls/tls.crt": lambda role: Path(authority.file(role)).read_text(),
        "tls/tls.key": lambda role: Path(authority.file(f"{role}-key")).read_text(),
    }
    for role, pod in found.items():
        machine.file(role, "config/argus.toml", machine.here(pod.config, role))
        (machine.folder / role / "var" / "cache").mkdir(parents=True)
        for path, content in contents.items():
            # What is not mounted there is not there here either.
            if pod.has(f"/etc/argus/{path}"):
                machine.file(role, path, content(role))
    return client


def new_key(file: Path, *arguments: str) -> str:
    made = subprocess.run(
        [*ARGUS, "keys", "new", "--file", str(file), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


@contextmanager
def running(machine: Machine, pod: Pod) -> Iterator[subprocess.Popen[bytes]]:
    """Run a pod's container; it is killed on exit unless it has ended."""
    arguments = [machine.here(argument, pod.role) for argument in pod.container["args"]]
    with open(machine.folder / f"{pod.role}.log", "wb") as log:
        process = subprocess.Popen(
            [*ARGUS, *arguments],
            env={**os.environ, **pod.environment, "HOME": str(machine.folder)},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def satisfied(machine: Machine, pod: Pod, probe: Object) -> bool:
    """Ask once, as the kubelet would."""
    if "exec" in probe:
        words = [machine.here(word, pod.role) for word in probe["exec"]["command"][1:]]
        asked = subprocess.run([*ARGUS, *words], capture_output=True, check=False)
        return asked.returncode == 0
    wanted = probe["httpGet"]
    scheme = wanted.get("scheme", "HTTP").lower()
    port = machine.port(str(pod.ports[wanted["port"]]))
    # The kubelet does not look at certificates.
    unverified = ssl._create_unverified_context()
    try:
        url = f"{scheme}://127.0.0.1:{port}{wanted['path']}"
        with urllib.request.urlopen(url, timeout=20, context=unverified) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def eventually(machine: Machine, pod: Pod, name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for a probe to be satisfied."""
    end_s = time.monotonic() + PROBED_S
    while time.monotonic() < end_s:
        log = (machine.folder / f"{pod.role}.log").read_text
        assert process.poll() is None, log()
        if satisfied(machine, pod, pod.probes[name]):
            return
        time.sleep(0.2)
    pytest.fail(f"{pod.role}: {name} was never satisfied: {log()}")


def generated(machine: Machine, authority: Path, key: str) -> Any:
    """Make a picture through the gateway, as somebody outside would."""
    context = ssl.create_default_context(cafile=str(authority))
    context.check_hostname = False  # dialled by another name than the Service's
    request = urllib.request.Request(
        f"https://127.0.0.1:{machine.port('7421')}/v1/images/generations",
        data=json.dumps({"prompt": "a red circle", "steps": 3, "seed": 7}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=120, context=context) as answer:
        return json.load(answer)


def test_a_release_is_probed_serves_and_ends(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    """With TLS and keys, as the chart has it by default."""
    machine = Machine(tmp_path, tiny_folders["tiny-eps"].parent)
    found = pods(rendered(VALUES))
    client = mount(machine, found)
    coordinator, node, gateway = (found[role] for role in ("coordinator", "node", "gateway"))
    with ExitStack() as stack:
        processes = {}
        for pod in (gateway, coordinator):
            assert not satisfied(machine, pod, pod.probes["startupProbe"])
            processes[pod.role] = stack.enter_context(running(machine, pod))
            for name in ("startupProbe", "livenessProbe"):
                eventually(machine, pod, name, processes[pod.role])
        eventually(machine, coordinator, "readinessProbe", processes["coordinator"])
        # Without a node no picture can be made, and the gateway says so.
        assert not satisfied(machine, gateway, gateway.probes["readinessProbe"])
        processes["node"] = stack.enter_context(running(machine, node))
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            eventually(machine, node, name, processes["node"])
        eventually(machine, gateway, "readinessProbe", processes["gateway"])

        made = generated(machine, tmp_path / "ca.pem", client)
        assert base64.b64decode(made["data"][0]["b64_json"]).startswith(b"\x89PNG")
        assert json.dumps(made).count("tiny-eps") > 0
        with pytest.raises(urllib.error.HTTPError, match="401"):
            generated(machine, tmp_path / "ca.pem", "argus_000000000000_" + 64 * "0")

        for role in ("node", "gateway", "coordinator"):
            processes[role].send_signal(signal.SIGTERM)
            limit_s = found[role].spec["terminationGracePeriodSeconds"]
            log = (tmp_path / f"{role}.log").read_text
            assert processes[role].wait(limit_s) == 0, log()
