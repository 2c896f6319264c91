"""deploy/inference: valid by its schemas, true of the app, and what belongs together agrees. No cluster is needed."""

import copy
import json
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from app.remote.body import CHAT, TEXT
from app.settings import REQUESTS_PER_UPSTREAM, EngineKind, Settings
from stack.config import load_config
from tests.support.kubernetes import VERSIONS, built, has_kubectl, validate
from tests.support.kustomize import Object, kustomization, objects

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "inference"
DOCUMENT = (ROOT / "docs" / "kubernetes.md").read_text()
OBJECTS = objects(FOLDER)


def _one(kind: str, name: str) -> Object:
    (found,) = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


GATEWAYS, SERVERS, JOB = (
    _one(kind, name)["spec"]
    for kind, name in (("Deployment", "serving"), ("Deployment", "serving-vllm"), ("Job", "serving-models"))
)
POD, VLLM_POD = GATEWAYS["template"]["spec"], SERVERS["template"]["spec"]
(APP,), (VLLM,) = POD["containers"], VLLM_POD["containers"]
POOL, ROUTE = _one("InferencePool", "serving-vllm")["spec"], _one("HTTPRoute", "serving-vllm")["spec"]
(RULE,) = ROUTE["rules"]
PICKER = yaml.safe_load((FOLDER / "endpoint-picker.yaml").read_text())["router"]
SETTINGS = _one("ConfigMap", "serving-settings")["data"] | {
    each["name"]: each["value"] for each in APP["env"] if "value" in each
}
OPTIONS = dict(each.partition("=")[::2] for each in VLLM["args"])


def _settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_each_object_has_the_fields_of_its_schema_and_no_others(each: Object, version: str) -> None:
    validate(each, version)
    with pytest.raises(jsonschema.ValidationError):
        validate(each | {"spek": {}}, version)


def _without_a_port(spec: Any) -> None:
    del spec["endpointPickerRef"]["port"]


WRONG: dict[str, tuple[str, Callable[[Any], None]]] = {
    "the selector of a Deployment": ("InferencePool", lambda spec: spec["selector"].update(matchExpressions=[])),
    "no pods": ("InferencePool", lambda spec: spec["selector"]["matchLabels"].clear()),
    "the alpha's port": ("InferencePool", lambda spec: spec.update(targetPortNumber=8000)),
    "a port by its name": ("InferencePool", lambda spec: spec.update(targetPorts=[{"number": "http"}])),
    "a port twice": ("InferencePool", lambda spec: spec.update(targetPorts=[{"number": 1}, {"number": 1}])),
    "the alpha's picker": ("InferencePool", lambda spec: spec.update(extensionRef={"name": "serving-vllm-epp"})),
    "a picker without its port": ("InferencePool", _without_a_port),
    "another way to fail": ("InferencePool", lambda spec: spec["endpointPickerRef"].update(failureMode="Open")),
    "the alpha's group": ("HTTPRoute", lambda spec: _first(spec, "backendRefs").update(group="x-k8s.io")),
    "a backend's port": ("HTTPRoute", lambda spec: _first(spec, "backendRefs").update(port=8000)),
    "a path's prefix alone": ("HTTPRoute", lambda spec: _first(spec, "matches").update(path={"prefix": "/"})),
    "a relative path": ("HTTPRoute", lambda spec: _first(spec, "matches")["path"].update(value="v1")),
    "a time without its unit": ("HTTPRoute", lambda spec: spec["rules"][0]["timeouts"].update(request="630")),
    "a time as a number": ("HTTPRoute", lambda spec: spec["rules"][0]["timeouts"].update(request=630)),
    "an unknown time": ("HTTPRoute", lambda spec: spec["rules"][0]["timeouts"].update(idle="630s")),
    "no Gateway": ("HTTPRoute", lambda spec: spec.update(parentRefs=[])),
}


def _first(spec: Any, name: str) -> Any:
    return spec["rules"][0][name][0]


@pytest.mark.parametrize("wrong", WRONG)
def test_the_schemas_that_were_written_for_it_are_strict_inside_too(wrong: str) -> None:
    kind, change = WRONG[wrong]
    each = copy.deepcopy(_one(kind, "serving-vllm"))
    change(each["spec"])
    with pytest.raises(jsonschema.ValidationError):
        validate(each, VERSIONS[0])


@has_kubectl
def test_kustomize_builds_what_is_tested_here() -> None:
    digest = re.compile(r"^(serving-(?:nginx|settings)[a-z-]*)-[a-z0-9]{10}$")
    image = re.compile(r"^registry\.example\.org/serving-app:0\.1\.0-cpu$")

    def plain(value: Any) -> Any:
        """Without an order of lists, and without what Kustomize puts into names."""
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return sorted((plain(each) for each in value), key=partial(json.dumps, sort_keys=True))
        return image.sub("serving-app", digest.sub(r"\1", value)) if isinstance(value, str) else value

    assert plain(built(FOLDER)) == plain(OBJECTS)


def test_every_file_of_the_folder_is_used() -> None:
    listed = kustomization(FOLDER)
    files = {*listed["resources"], *(each["path"] for each in listed["patches"])}
    files |= {file for each in listed["configMapGenerator"] for file in each["envs"]}
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert files == {"../kubernetes", *there} - {"kustomization.yaml", "endpoint-picker.yaml"}
    assert "--values deploy/inference/endpoint-picker.yaml" in DOCUMENT


def test_what_selects_vllm_s_pods_finds_them_and_nothing_else() -> None:
    labels = SERVERS["template"]["metadata"]["labels"]
    assert labels == SERVERS["selector"]["matchLabels"] == POOL["selector"]["matchLabels"]
    assert labels == PICKER["modelServers"]["matchLabels"]
    for kind, field in (("NetworkPolicy", "podSelector"), ("PodMonitor", "selector")):
        assert labels == _one(kind, "serving-vllm")["spec"][field]["matchLabels"]
    (spread,) = POD["topologySpreadConstraints"]
    gateways = GATEWAYS["template"]["metadata"]["labels"]
    assert gateways == GATEWAYS["selector"]["matchLabels"] == spread["labelSelector"]["matchLabels"]
    assert gateways == _one("Service", "serving")["spec"]["selector"]
    assert labels not in (gateways, JOB["template"]["metadata"]["labels"])


def test_the_route_leads_to_the_pool_and_the_pool_to_vllm_s_port() -> None:
    (backend,) = RULE["backendRefs"]
    pool = _one("InferencePool", "serving-vllm")
    assert (backend["group"], backend["kind"]) == (pool["apiVersion"].split("/")[0], pool["kind"])
    assert backend["name"] == pool["metadata"]["name"]
    (port,) = VLLM["ports"]
    assert POOL["targetPorts"] == PICKER["modelServers"]["targetPorts"] == [{"number": port["containerPort"]}]
    assert "--port" not in OPTIONS, "vLLM's own is 8000"
    assert port["containerPort"] == 8000
    for name in ("NetworkPolicy", "PodMonitor"):
        assert f"'port': '{port['name']}'" in str(_one(name, "serving-vllm"))


def test_the_picker_is_the_one_that_the_chart_installs() -> None:
    """The chart calls its Service after its release, and gives it port 9002 where no other is set."""
    (install,) = re.findall(r"helm install (\S+) (?:.*\\\n)+?.*endpoint-picker\.yaml", DOCUMENT)
    reference = POOL["endpointPickerRef"]
    assert (reference["name"], reference["port"]) == (f"{install}-epp", {"number": 9002})
    assert "epp" not in PICKER
    assert PICKER["inferencePool"] == {"create": False}, "it is in this folder"
    picker = {"podSelector": {"matchLabels": {"llm-d-router-standalone": reference["name"]}}}
    (rule,) = _one("NetworkPolicy", "serving-vllm")["spec"]["ingress"]
    assert picker in rule["from"], "it reads the metrics of the pods"


def _routed(path: str) -> bool:
    return any(
        path == match["value"]
        or (match["type"] == "PathPrefix" and path.startswith(match["value"].rstrip("/") + "/"))
        for match in (each["path"] for each in RULE["matches"])
    )


def test_what_the_app_asks_is_routed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    (address,) = _settings(monkeypatch).engine_url or ()
    base = urlsplit(address).path
    asked = [f"{base}/{CHAT}", f"{base}/{TEXT}", f"{base}/models", f"{base.removesuffix('/v1')}/health"]
    assert all(map(_routed, asked)), asked
    assert not any(map(_routed, ("/", "/metrics", "/tokenize", "/invocations", "/pause", "/healthz", "/v1x")))


def test_the_app_reaches_the_gateway_and_only_the_gateway_reaches_vllm() -> None:
    (parent,) = ROUTE["parentRefs"]
    host = urlsplit(SETTINGS["ENGINE_URL"]).hostname or ""
    assert host.startswith(f"{parent['name']}-"), "the Service is named after the Gateway and its class"
    gateway = {"podSelector": {"matchLabels": {"gateway.networking.k8s.io/gateway-name": parent["name"]}}}
    app, vllm = (_one("NetworkPolicy", name)["spec"] for name in ("serving", "serving-vllm"))
    to_gateway, to_dns = app["egress"]
    assert to_gateway == {"to": [gateway]}
    assert {(port["port"], port["protocol"]) for port in to_dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    (rule,) = vllm["ingress"]
    assert gateway in rule["from"]
    assert {"podSelector": app["podSelector"]} not in rule["from"], "it goes through the Gateway"
    assert (vllm["policyTypes"], vllm["egress"]) == (["Ingress", "Egress"], [])
    assert f"name: {parent['name']}\n" in DOCUMENT, "the document shows the Gateway that is needed"


def test_the_app_gets_settings_with_values_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(monkeypatch)
    assert set(SETTINGS) <= {name.upper() for name in Settings.model_fields}
    assert settings.engine is EngineKind.REMOTE
    assert settings.model == OPTIONS["--served-model-name"]
    assert (settings.max_sequences, len(settings.engine_url or ())) == (0, 1)
    at_once = GATEWAYS["replicas"] * REQUESTS_PER_UPSTREAM
    assert at_once <= SERVERS["replicas"] * 256, "vLLM's own bound on such cards"
    assert f"{at_once} requests" in DOCUMENT


def test_one_key_is_between_the_app_and_vllm() -> None:
    (app,), (vllm,) = (
        [each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"] == name]
        for container, name in ((APP, "ENGINE_API_KEY"), (VLLM, "VLLM_API_KEY"))
    )
    assert app == vllm
    assert f"create secret generic {app['name']} --from-literal={app['key']}=" in DOCUMENT


def test_vllm_serves_what_is_fetched_from_the_same_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _settings(monkeypatch).model
    (fetch,) = JOB["template"]["spec"]["containers"]
    assert fetch["command"][-1] == model
    (written,) = [each for each in fetch["volumeMounts"] if each["name"] == "weights"]
    (read,) = [each for each in VLLM["volumeMounts"] if each["name"] == "weights"]
    assert VLLM["args"][0] == f"{read['mountPath']}/{model}"
    assert (read["mountPath"], read["readOnly"]) == (written["mountPath"], True)
    for pod in (VLLM_POD, JOB["template"]["spec"]):
        (volume,) = [each for each in pod["volumes"] if each["name"] == "weights"]
        assert volume["persistentVolumeClaim"]["claimName"] == "serving-weights"
        assert pod["securityContext"]["fsGroup"] == 10001
    assert _one("PersistentVolumeClaim", "serving-weights")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_each_vllm_has_the_gpus_that_it_splits_the_model_over_and_the_app_has_none() -> None:
    assert VLLM["resources"]["limits"]["nvidia.com/gpu"] == int(OPTIONS["--tensor-parallel-size"]) == 2
    assert SERVERS["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}, "no GPUs are left over"
    assert "nvidia" not in str(GATEWAYS)
    assert "/models" not in str(GATEWAYS)
    for pod in (POD, VLLM_POD):
        mounted = {
            mount["name"]
            for container in (*pod.get("initContainers", []), *pod["containers"])
            for mount in container.get("volumeMounts", [])
        }
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_vllm_is_run_as_on_one_box() -> None:
    """So what was reckoned and tried there is true here: its context, its memory, its user, its folders."""
    compose = yaml.safe_load((ROOT / "compose.vllm.yaml").read_text())["services"]["vllm"]
    default = re.compile(r"\$\{\w+:-([^}]*)\}")
    there = [default.sub(r"\1", each) for each in compose["command"]]
    assert VLLM["args"] == [*there, f"--shutdown-timeout={OPTIONS['--shutdown-timeout']}"]
    assert VLLM["image"] == default.sub(r"\1", compose["image"])
    assert "command" not in VLLM, "the image's entrypoint"
    security = VLLM["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == compose["user"]
    given = {each["name"]: each.get("value") for each in VLLM["env"]}
    assert set(given) == set(compose["environment"]) - {"CUDA_VISIBLE_DEVICES"}
    assert all(value == compose["environment"][name] for name, value in given.items() if value is not None)
    mounts = {each["name"]: each["mountPath"] for each in VLLM["volumeMounts"]}
    assert {default.sub(r"\1", each).split(":")[1] for each in compose["volumes"]} == {
        mounts["weights"],
        mounts["home"],
    }
    sizes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in VLLM_POD["volumes"] if "emptyDir" in each}
    assert sizes["shm"].removesuffix("Gi") == compose["shm_size"].removesuffix("g")
    assert f"{mounts['tmp']}:size={sizes['tmp'].removesuffix('Gi')}g" in compose["tmpfs"][0]
    assert VLLM["resources"]["limits"]["memory"].removesuffix("Gi") == compose["deploy"]["resources"]["limits"][
        "memory"
    ].removesuffix("g")


def test_vllm_has_only_what_it_needs() -> None:
    security = VLLM["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert VLLM_POD["securityContext"]["runAsNonRoot"] is True
    assert VLLM_POD["automountServiceAccountToken"] is False
    assert VLLM_POD["enableServiceLinks"] is False


def _seconds(duration: str) -> int:
    (number,) = re.fullmatch(r"(\d+)s", duration).groups()  # type: ignore[union-attr]  # it fails where it is not
    return int(number)


def test_each_deadline_is_longer_than_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(monkeypatch)
    longest = settings.request_timeout
    route = _seconds(RULE["timeouts"]["request"])
    assert route >= longest + 30, "the app ends a request first, and says why"
    pause = APP["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = load_config(SETTINGS, ROOT / "no.env").stop_seconds
    ends = [longest, settings.drain_seconds + 1, drain, POD["terminationGracePeriodSeconds"] - pause - 9]
    assert all(before < after for before, after in pairwise(ends)), "no answer is cut when a gateway ends"
    cut, pause = int(OPTIONS["--shutdown-timeout"]), VLLM["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert longest <= cut <= VLLM_POD["terminationGracePeriodSeconds"] - pause - 30, "nor when a vLLM ends"


def test_the_probes_ask_vllm_s_health_and_give_it_time_to_start() -> None:
    probes = [VLLM[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert [each["httpGet"] for each in probes] == [{"path": "/health", "port": "http"}] * 3
    start = probes[0]["periodSeconds"] * probes[0]["failureThreshold"]
    assert int(SETTINGS["STARTUP_DEADLINE"]) < start < SERVERS["progressDeadlineSeconds"]


def test_the_dashboards_find_vllm_s_figures_under_the_job_that_they_ask() -> None:
    jobs = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (upstreams,) = [each for each in jobs if each["job_name"] == "upstreams"]
    (end,) = _one("PodMonitor", "serving-vllm")["spec"]["podMetricsEndpoints"]
    assert {"targetLabel": "job", "replacement": upstreams["job_name"]} in end["relabelings"]
    (kept,) = end["metricRelabelings"]
    (there,) = upstreams["metric_relabel_configs"]
    assert (kept["sourceLabels"], kept["action"]) == (there["source_labels"], there["action"])
    for regex in (kept["regex"], there["regex"]):
        assert re.fullmatch(regex, "vllm:generation_tokens_total")
        assert not re.fullmatch(regex, "serving_requests_running")


def test_only_pods_that_are_ready_get_requests_and_one_is_always_there() -> None:
    assert _one("Service", "serving")["spec"]["publishNotReadyAddresses"] is False
    assert GATEWAYS["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert GATEWAYS["replicas"] > 1
    for name in ("serving", "serving-vllm"):
        for end in _one("PodMonitor", name)["spec"]["podMetricsEndpoints"]:
            by_pod = {"targetLabel": "instance", "sourceLabels": ["__meta_kubernetes_pod_name"]}
            assert by_pod in end["relabelings"], "each pod is an instance"
