"""The chart as Helm renders it, and what is in it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml
from helm_python.chart import Chart

from tests.deploy.command_line import DEPLOY

CHART = DEPLOY / "helm" / "argus"
RELEASE, NAMESPACE = "pics", "prod"
ROLES = ("coordinator", "node", "gateway")
Values = dict[str, Any]
Object = dict[str, Any]

MODELS: Values = {
    "folders": ["stable-diffusion-xl-base-1.0", "sd15"],
    "volume": {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
}
CASES: dict[str, Values] = {
    "defaults": {},
    "insecure": {"insecure": True},
    "cpu": {
        "insecure": True,
        "node": {"gpu": {"enabled": False}, "cache": {"persistent": False}, "replicas": 2},
    },
    "eight GPUs": {
        "coordinator": {"extraEnv": [{"name": "ARGUS_LOG_PROMPTS", "value": "true"}]},
        "node": {
            "replicas": 8,
            "models": MODELS,
            "runtimeClassName": "nvidia",
            "nodeSelector": {"gpu": "h200"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "cache": {"storageClass": "fast"},
        },
        "image": {"repository": "images.internal/argus", "tag": "2", "pullSecrets": ["pull"]},
        "config": {"node": {"slots": 32, "drain_grace_s": 90.5}, "log": {"level": "warning"}},
        "auth": {"tenants": "[default]\nrate_per_s = 5\n\n[tenants.acme]\nweight = 2\n"},
    },
    "mutual TLS": {"tls": {"mutual": True, "serverName": "argus.internal", "nodeSecret": "mine"}},
    "behind an ingress": {
        "gateway": {
            "tls": False,
            "ingress": {"enabled": True, "host": "pictures.internal", "tlsSecret": "cert"},
        },
        "networkPolicy": {"httpClients": [{"namespaceSelector": {}}]},
    },
    "stand-by": {"standby": {"enabled": True, "existingSecret": "database"}},
    "watched": {
        "serviceMonitor": {"enabled": True, "operatorKeySecret": "operator", "labels": {"a": "b"}},
        "networkPolicy": {
            "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "clients": [{"podSelector": {"matchLabels": {"app": "shop"}}}],
            "extraEgress": [{"ports": [{"port": 5432, "protocol": "TCP"}]}],
        },
    },
    "without a gateway": {"gateway": {"enabled": False}, "networkPolicy": {"enabled": False}},
    "two renamed": {"fullnameOverride": "pictures", "serviceAccount": {"create": False}},
}


def rendered(values: Values) -> list[Object]:
    """Return the objects that Helm would send to Kubernetes."""
    with Chart.load(CHART) as chart:
        files = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    return [
        found
        for name, text in files.items()
        if not name.endswith("NOTES.txt")
        for found in yaml.safe_load_all(text)
        if found is not None
    ]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


@dataclass(frozen=True)
class Pod:
    """The template of a role's pods, and the object that makes them."""

    role: str
    owner: Object
    config: str
    """The settings file that it is given."""

    @property
    def spec(self) -> Object:
        spec: Object = self.owner["spec"]["template"]["spec"]
        return spec

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.owner["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def container(self) -> Object:
        (only,) = self.spec["containers"]
        found: Object = only
        return found

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        return tomllib.loads(self.config)

    @property
    def environment(self) -> dict[str, str]:
        """What is set of Argus's variables; those that come from elsewhere as they might be."""
        elsewhere = {
            "ARGUS_STANDBY_POSTGRES": "host=db.internal dbname=argus",
            "ARGUS_NODE_NAME": "pics-argus-node-0",
        }
        return {
            variable["name"]: variable.get("value") or elsewhere[variable["name"]]
            for variable in self.container["env"]
            if variable["name"].startswith("ARGUS_")
        }

    def commands(self) -> Iterator[list[str]]:
        """Iterate over the command lines of the container and of its probes."""
        yield [*self.container["command"], *self.container["args"]]
        for probe in self.probes.values():
            if "exec" in probe:
                yield probe["exec"]["command"]

    @property
    def probes(self) -> Mapping[str, Object]:
        return {k: v for k, v in self.container.items() if k.endswith("Probe")}

    def has(self, path: str) -> bool:
        """Return whether a path of the container is on a volume, as far as the volume tells."""
        wanted = PurePosixPath(path)
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        for claim in self.owner["spec"].get("volumeClaimTemplates", ()):
            volumes[claim["metadata"]["name"]] = claim
        for mount in self.container["volumeMounts"]:
            volume = volumes[mount["name"]]
            if not wanted.is_relative_to(mount["mountPath"]):
                continue
            items = volume.get("secret", {}).get("items")
            inside = str(wanted.relative_to(mount["mountPath"]))
            return items is None or inside in {item["path"] for item in items}
        return False

    def can_write(self, path: str) -> bool:
        """Return whether a path of the container can be written to."""
        return any(
            PurePosixPath(path).is_relative_to(mount["mountPath"]) and not mount.get("readOnly")
            for mount in self.container["volumeMounts"]
        )


def pods(objects: list[Object]) -> dict[str, Pod]:
    """Return the pods by role."""
    (config,) = of_kind(objects, "ConfigMap")
    found = {}
    for owner in of_kind(objects, "StatefulSet", "Deployment"):
        role = owner["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        found[role] = Pod(role, owner, config["data"]["argus.toml"])
    return found
