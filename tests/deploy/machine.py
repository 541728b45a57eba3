"""Runs the pods of the chart as processes on this machine, and asks them as the kubelet would."""

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
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.chart import Object, Pod
from tests.unit.coordinator.secured import Authority

ARGUS = (sys.executable, "-P", "-m", "argus.cli.main")
RELEASE_NAME = "pics-argus"
SERVER_NAME = f"{RELEASE_NAME}-coordinator.prod.svc"
PROBED_S = 120.0
"""How long a process may take until a probe is satisfied."""
STARTED, ALIVE, READY = "startupProbe", "livenessProbe", "readinessProbe"


class Machine:
    """Where pods run: each path of theirs and each of their ports has another here.

    Args:
        folder: for their files.
        models: where the model folders are.
        replicas: how many pods each role has.
    """

    def __init__(self, folder: Path, models: Path, replicas: Mapping[str, int]) -> None:
        self.folder = folder
        self.models = models
        self.names = {
            role: [f"{role}-{at}" for at in range(count)] for role, count in replicas.items()
        }
        self._ports: dict[tuple[str, str], int] = {}

    def port(self, name: str, wanted: str) -> int:
        """Return the port here of a port of a pod."""
        if (name, wanted) not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[name, wanted] = probe.getsockname()[1]
        return self._ports[name, wanted]

    def here(self, text: str, name: str) -> str:
        """Return a text of a pod's with the paths and addresses that these have here."""
        text = text.replace("/models/", f"{self.models}/")
        text = re.sub("/(etc|var/cache)/argus", rf"{self.folder}/{name}/\1", text)
        pod = f"{RELEASE_NAME}-(coordinator-[0-9]).{RELEASE_NAME}-coordinator-pods"
        dialled = f"(?:{pod}|{RELEASE_NAME}-coordinator|0.0.0.0|127.0.0.1):(742[0-9])"

        def address(match: re.Match[str]) -> str:
            service = match[0].startswith(RELEASE_NAME) and self.names["coordinator"][0]
            return f"127.0.0.1:{self.port(match[1] or service or name, match[2])}"

        return re.sub(dialled, address, text)

    def write(self, name: str, path: str, content: str) -> None:
        """Write a file of a pod's /etc/argus."""
        file = self.folder / name / "etc" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def new_key(file: Path, *arguments: str) -> str:
    made = subprocess.run(
        [*ARGUS, "keys", "new", "--file", str(file), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def mount(machine: Machine, found: Mapping[str, Pod]) -> str:
    """Put what Secrets and the ConfigMap hold where each pod has it; return a client's key."""
    keys = machine.folder / "keys"
    authority = Authority(machine.folder)
    authority.issue("coordinator", SERVER_NAME)
    authority.issue("gateway", f"{RELEASE_NAME}-gateway.prod.svc")
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
        for name in machine.names[role]:
            machine.write(name, "config/argus.toml", machine.here(pod.config, name))
            (machine.folder / name / "var" / "cache").mkdir(parents=True)
            for path, content in contents.items():
                # What is not mounted there is not there here either.
                if pod.has(f"/etc/argus/{path}"):
                    machine.write(name, path, content(role))
    return client


@dataclass
class Running:
    """A pod that runs here."""

    machine: Machine
    name: str
    pod: Pod
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def started(self) -> Iterator[Running]:
        """Run the pod's container; it is killed on exit unless it has ended."""
        arguments = [self.machine.here(word, self.name) for word in self.pod.container["args"]]
        home = {"HOME": str(self.machine.folder)}
        environment = {**os.environ, **self.pod.environment, **home, **self.environment}
        with open(self.machine.folder / f"{self.name}.log", "wb") as log:
            command = [*ARGUS, *arguments]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                yield self
            finally:
                self.process.kill()
                self.process.wait()

    @property
    def log(self) -> str:
        return (self.machine.folder / f"{self.name}.log").read_text()

    def satisfies(self, name: str) -> bool:
        """Ask once, as the kubelet would."""
        probe: Object = self.pod.probes[name]
        if "exec" in probe:
            words = [self.machine.here(w, self.name) for w in probe["exec"]["command"][1:]]
            asked = subprocess.run([*ARGUS, *words], capture_output=True, check=False)
            return asked.returncode == 0
        wanted = probe["httpGet"]
        scheme = wanted.get("scheme", "HTTP").lower()
        port = self.machine.port(self.name, str(self.pod.ports[wanted["port"]]))
        # The kubelet does not look at certificates.
        unverified = ssl._create_unverified_context()
        try:
            url = f"{scheme}://127.0.0.1:{port}{wanted['path']}"
            with urllib.request.urlopen(url, timeout=20, context=unverified) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def until(self, *names: str) -> None:
        """Wait for probes to be satisfied."""
        for name in names:
            end_s = time.monotonic() + PROBED_S
            while not self.satisfies(name):
                assert self.process.poll() is None, self.log
                assert time.monotonic() < end_s, f"{self.name}: {name}: {self.log}"
                time.sleep(0.2)

    def end(self) -> None:
        """End it as Kubernetes does, within the time that it gives."""
        self.process.send_signal(signal.SIGTERM)
        limit_s = self.pod.spec["terminationGracePeriodSeconds"]
        assert self.process.wait(limit_s) == 0, self.log


def generated(machine: Machine, key: str, seed: int = 7) -> Any:
    """Make a picture through the gateway, as somebody outside would; return how it was made."""
    context = ssl.create_default_context(cafile=str(machine.folder / "ca.pem"))
    context.check_hostname = False  # dialled by another name than the Service's
    request = urllib.request.Request(
        f"https://127.0.0.1:{machine.port('gateway-0', '7421')}/v1/images/generations",
        data=json.dumps({"prompt": "a red circle", "steps": 3, "seed": seed}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=120, context=context) as answer:
        made = json.load(answer)
    assert base64.b64decode(made["data"][0]["b64_json"]).startswith(b"\x89PNG")
    return made
