"""The Helm chart: rendered by Helm itself, held against Kubernetes' schemas and against Argus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError

from argus import __version__
from argus.cli.coordinator import HARD_END_S
from argus.config import Config, load_config
from argus.control.tenants import parse_tenants
from argus.coordinator import security
from argus.gateway import service as gateway_service
from argus.gateway.access import OPEN
from argus.node.health import NodeHealth
from argus.rpc.address import parse_address
from argus.rpc.health import SERVICES
from tests.deploy.chart import CASES, CHART, ROLES, Object, Pod, Values, of_kind, pods, rendered
from tests.deploy.command_line import parsed
from tests.unit.coordinator.bench import info
from tests.unit.node.test_health import Engine

KUBERNETES = ("1.27", "1.32", "1.37")
ALL = pytest.mark.parametrize("values", CASES.values(), ids=CASES)


@ALL
def test_helm_lint_has_nothing_to_say(values: Values) -> None:
    report = lint(CHART, values, strict=True, kube_version="v1.30.0")
    assert report["errors"] == []
    assert {m["error"] for m in report["messages"]} <= {"icon is recommended"}


@pytest.mark.parametrize("version", KUBERNETES)
@ALL
def test_kubernetes_knows_every_object_and_field(values: Values, version: str) -> None:
    objects = rendered(values)
    for found in objects:
        if found["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(found, version, strict=True)
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))


def test_the_schemas_would_notice_a_field_that_does_not_exist() -> None:
    (node,) = [o for o in of_kind(rendered({}), "StatefulSet") if "node" in o["metadata"]["name"]]
    node["spec"]["template"]["spec"]["containers"][0]["comand"] = ["argus"]
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        kubernetes_validate.validate(node, KUBERNETES[-1], strict=True)


@ALL
def test_every_command_line_is_one_that_argus_takes(values: Values) -> None:
    for role, pod in pods(rendered(values)).items():
        names = []
        for program, *arguments in pod.commands():
            assert program == "argus"
            name, options = parsed(arguments)
            names.append(name)
            assert str(options["config"]) == "/etc/argus/config/argus.toml"
            for path in (options["config"], *(options.get("model") or ())):
                assert pod.has(str(path)), f"{role}: {path} is on no volume"
        assert names[0] == role
        assert set(names[1:]) <= {"health"}


def settings_of(pod: Pod, folder: Path) -> Config:
    file = folder / f"{pod.role}.toml"
    file.write_text(pod.config)
    return load_config(file, pod.environment)


@ALL
def test_the_settings_are_ones_that_argus_takes(values: Values, tmp_path: Path) -> None:
    found = pods(rendered(values))
    for pod in found.values():
        config = settings_of(pod, tmp_path)
        security.check_exposure(config)
        gateway_service.check_exposure(config)
        assert parse_address(config.coordinator.bind, "x")[1] == found["coordinator"].ports["grpc"]
        metrics = parse_address(config.coordinator.metrics, "x")[1]
        assert metrics == found["coordinator"].ports["metrics"]
        assert parse_address(config.node.metrics, "x")[1] == found["node"].ports["metrics"]
        if "gateway" in found:
            assert parse_address(config.gateway.bind, "x")[1] == found["gateway"].ports["http"]
        for section, wanted in values.get("config", {}).items():
            for name, value in wanted.items():
                assert getattr(getattr(config, section), name) == value


@ALL
def test_every_file_that_a_process_opens_is_mounted_for_it(values: Values, tmp_path: Path) -> None:
    """And no other's: a node sees no keys of clients, nobody another's private key."""
    for role, pod in pods(rendered(values)).items():
        config = settings_of(pod, tmp_path)
        dials = (config.tls.ca, config.tls.client_certificate, config.tls.client_key)
        shows = (config.tls.certificate, config.tls.key)
        files = {
            "coordinator": (*shows, config.tls.client_ca, config.auth.keys, config.auth.tenants),
            "node": (*dials, config.auth.api_key_file),
            "gateway": (*dials, config.auth.api_key_file, config.auth.keys)
            + (shows if config.gateway.tls else ()),
        }[role]
        for path in filter(None, files):
            assert pod.has(path), f"{role}: {path}"
        assert role == "gateway" or pod.can_write(config.cache.folder)
        assert pod.can_write("/tmp")
        assert not pod.can_write("/etc/argus/config/argus.toml")
        if not values.get("insecure"):
            assert pod.has("/etc/argus/keys/keys") == (role != "node")
            assert pod.has("/etc/argus/key/api.key") == (role != "coordinator")
            assert pod.has("/etc/argus/tls/tls.key") == (bool(set(files) & set(shows)))


def test_more_variables_reach_the_process_they_are_for(tmp_path: Path) -> None:
    found = pods(rendered(CASES["eight GPUs"]))
    assert settings_of(found["coordinator"], tmp_path).log.prompts is True
    assert settings_of(found["node"], tmp_path).log.prompts is False
    assert settings_of(found["node"], tmp_path).node.name == "pics-argus-node-0"


def test_files_of_tenants_are_understood() -> None:
    (config,) = of_kind(rendered(CASES["eight GPUs"]), "ConfigMap")
    tenants = parse_tenants(config["data"]["tenants.toml"], "tenants.toml")
    assert tenants.terms("acme").weight == 2


@ALL
def test_pods_are_locked_down(values: Values) -> None:
    objects = rendered(values)
    for pod in pods(objects).values():
        # Kubernetes' own variables for Services would be taken for settings: ARGUS_NODE_PORT.
        assert pod.spec["enableServiceLinks"] is False
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert pod.spec["securityContext"]["runAsUser"] > 0
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        own = pod.container["securityContext"]
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        accounts = [a["metadata"]["name"] for a in of_kind(objects, "ServiceAccount")]
        assert pod.spec["serviceAccountName"] in (accounts or ["default"])


@ALL
def test_pods_have_time_to_end_in_good_order(values: Values) -> None:
    for role, pod in pods(rendered(values)).items():
        grace_s = pod.settings[role]["drain_grace_s"]
        hooks = pod.container.get("lifecycle", {}).get("preStop", {}).get("exec", {})
        before_s = float(hooks["command"][1]) if hooks else 0.0
        assert pod.spec["terminationGracePeriodSeconds"] > before_s + grace_s + HARD_END_S


@ALL
def test_probes_ask_what_is_really_served(values: Values) -> None:
    known = {"gateway": OPEN, "node": set(NodeHealth(info(), Engine()).checks)}
    for role, pod in pods(rendered(values)).items():
        assert set(pod.probes) == {"startupProbe", "livenessProbe", "readinessProbe"}
        for probe in pod.probes.values():
            if "httpGet" in probe:
                asked = probe["httpGet"]
                assert asked["path"] in known[role]
                https = role == "gateway" and pod.settings["gateway"]["tls"]
                assert asked.get("scheme", "HTTP") == ("HTTPS" if https else "HTTP")
                assert asked["port"] in pod.ports
            elif "grpc" in probe:
                assert probe["grpc"]["port"] == pod.ports["grpc"]
                assert probe["grpc"]["service"] in {"", *SERVICES}
                assert "tls" not in pod.settings, "the kubelet's gRPC probe speaks no TLS"
            else:
                _, options = parsed(probe["exec"]["command"][1:])
                assert options["service"] in {"", *SERVICES}
                assert parse_address(options["server"], "x")[1] == pod.ports["grpc"]
                assert options["timeout"] < probe["timeoutSeconds"]


def selected(objects: list[Object], labels: dict[str, str]) -> list[Pod]:
    return [p for p in pods(objects).values() if labels.items() <= p.labels.items()]


@ALL
def test_everything_selects_the_pods_of_one_role_and_ports_that_they_have(values: Values) -> None:
    objects = rendered(values)
    for pod in pods(objects).values():
        assert pod.owner["spec"]["selector"]["matchLabels"].items() <= pod.labels.items()
    services = {}
    for found in of_kind(objects, "Service"):
        (pod,) = selected(objects, found["spec"]["selector"])
        services[found["metadata"]["name"]] = {p["name"]: p for p in found["spec"]["ports"]}
        assert {p["targetPort"] for p in found["spec"]["ports"]} <= set(pod.ports)
    for found in of_kind(objects, "StatefulSet"):
        assert found["spec"]["serviceName"] in services
    for found in of_kind(objects, "PodDisruptionBudget"):
        (pod,) = selected(objects, found["spec"]["selector"]["matchLabels"])
        assert pod.owner["spec"]["replicas"] > found["spec"]["maxUnavailable"]
    for found in of_kind(objects, "NetworkPolicy"):
        (pod,) = selected(objects, found["spec"]["podSelector"]["matchLabels"])
        assert {p["port"] for rule in found["spec"]["ingress"] for p in rule["ports"]} <= set(
            pod.ports
        )
    for found in of_kind(objects, "ServiceMonitor"):
        wanted = found["spec"]["selector"]["matchLabels"]
        (service,) = [
            s
            for s in of_kind(objects, "Service")
            if wanted.items() <= s["metadata"]["labels"].items()
        ]
        for endpoint in found["spec"]["endpoints"]:
            assert endpoint["port"] in services[service["metadata"]["name"]]
    for found in of_kind(objects, "Ingress"):
        (rule,) = found["spec"]["rules"]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        assert backend["port"]["name"] in services[backend["name"]]


@ALL
def test_nodes_and_gateways_dial_services_that_exist(values: Values) -> None:
    objects = rendered(values)
    found = pods(objects)
    services = {s["metadata"]["name"]: s["spec"] for s in of_kind(objects, "Service")}
    owner = found["coordinator"].owner
    for section in ("node", "gateway"):
        addresses = found["node"].settings[section]["coordinator"].split(",")
        assert len(addresses) == owner["spec"]["replicas"]
        for at, address in enumerate(addresses):
            host, port = parse_address(address, "x")
            service = host.partition(".")[2] or host
            assert port in {p["port"] for p in services[service]["ports"]}
            if len(addresses) > 1:
                assert host == f"{owner['metadata']['name']}-{at}.{owner['spec']['serviceName']}"


def test_each_pod_has_one_gpu_and_the_image_for_it() -> None:
    for name, gpu in (("eight GPUs", 1), ("cpu", None)):
        found = pods(rendered(CASES[name]))
        node = found["node"].container
        assert node["resources"]["limits"].get("nvidia.com/gpu") == gpu
        assert ("--device=cuda" in node["args"]) == bool(gpu)
        assert node["image"].endswith("-cuda") == bool(gpu)
        assert "nvidia.com/gpu" not in found["coordinator"].container["resources"]["limits"]
        assert not found["gateway"].container["image"].endswith("-cuda")


def test_the_chart_is_of_this_version() -> None:
    with Chart.load(CHART) as chart:
        assert chart.metadata["appVersion"] == __version__
    assert set(pods(rendered({}))) == set(ROLES)


def test_a_second_coordinator_waits_beside_the_first() -> None:
    objects = rendered(CASES["stand-by"])
    coordinator = pods(objects)["coordinator"]
    assert coordinator.owner["spec"]["replicas"] == 2
    assert "--standby" in coordinator.container["args"]
    (variable,) = [v for v in coordinator.container["env"] if v["name"].startswith("ARGUS_")]
    assert variable["name"] == "ARGUS_STANDBY_POSTGRES"
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "database", "key": "postgres"}
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(objects, "NetworkPolicy")}
    out = policies["pics-argus-coordinator"]["egress"]
    assert all("--answers" in probe["exec"]["command"] for probe in coordinator.probes.values())
    assert coordinator.settings["standby"] == {"cluster": "prod/pics"}
    assert {"port": 5432, "protocol": "TCP"} in [p for rule in out for p in rule["ports"]]
    budgets = [b["metadata"]["name"] for b in of_kind(objects, "PodDisruptionBudget")]
    assert "pics-argus-coordinator" in budgets


def test_a_change_of_the_settings_starts_the_pods_anew() -> None:
    def marks(values: Values) -> set[str]:
        found = pods(rendered(values)).values()
        return {
            p.owner["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for p in found
        }

    first, second = marks({}), marks({"config": {"node": {"slots": 3}}})
    assert len(first) == len(second) == 1
    assert first != second


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nodes": 8}, "nodes"),
        ({"node": {"replicas": "eight"}}, "replicas"),
        ({"node": {"models": {"folders": ["sdxl"]}}}, "node.models.volume: is needed"),
        ({"node": {"models": {"folders": ["/srv/sdxl"], "volume": {"emptyDir": {}}}}}, "folders"),
        ({"standby": {"enabled": True}}, "standby.existingSecret: is needed"),
        ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.host: is needed"),
        ({"config": {"auth": {"api_key": "secret"}}}, "auth"),
        ({"config": {"standby": {"postgres": "secret"}}}, "standby"),
        ({"config": {"slots": 3}}, "slots"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values: Values, said: str) -> None:
    with pytest.raises(HelmError, match=said):
        rendered(values)


def test_every_default_is_allowed_and_described() -> None:
    """Every value there is has a schema, and every part of the schema a value."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())

    def compare(value: Any, described: Any, path: str) -> None:
        properties = described.get("properties")
        if not isinstance(value, dict) or not properties or path == ".config":
            return
        assert set(value) == set(properties) - {"global"}, path
        for name, inner in value.items():
            compare(inner, properties[name], f"{path}.{name}")

    compare(values, schema, "")
