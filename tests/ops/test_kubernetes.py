"""deploy/kubernetes: valid by Kubernetes' own schemas, and true of the app. No cluster is needed."""

import re
import runpy
from pathlib import Path

import jsonschema
import pytest
import yaml
from fastapi.testclient import TestClient

from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from stack import nginx
from stack.config import load_config
from tests.support.controlled import ControlledEngine
from tests.support.kubernetes import VERSIONS, built, has_kubectl, validate
from tests.support.kustomize import Object, kustomization, objects

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy" / "kubernetes"
OBJECTS = objects(BASE)


def _one(kind: str, name: str = "serving") -> Object:
    (found,) = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


DEPLOYMENT, JOB = _one("Deployment")["spec"], _one("Job", "serving-models")["spec"]
POD, FETCH = DEPLOYMENT["template"]["spec"], JOB["template"]["spec"]
CONTAINERS = {each["name"]: each for each in (*POD["initContainers"], *POD["containers"], *FETCH["containers"])}
APP, NGINX = CONTAINERS["app"], CONTAINERS["nginx"]
SETTINGS = _one("ConfigMap", "serving-settings")["data"] | {each["name"]: each["value"] for each in APP["env"]}
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_each_object_has_the_fields_of_its_schema_and_no_others(each: Object, version: str) -> None:
    validate(each, version)
    unknown = each | {"spek": {}}
    with pytest.raises(jsonschema.ValidationError):
        validate(unknown, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_are_strict_inside_too(version: str) -> None:
    wrong = yaml.safe_load(yaml.safe_dump(_one("Deployment")))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]["uri"] = "/livez"
    with pytest.raises(jsonschema.ValidationError):
        validate(wrong, version)


@has_kubectl
def test_kustomize_builds_it() -> None:
    found = built(BASE)
    for each in found:
        validate(each, VERSIONS[0])
    assert sorted(each["kind"] for each in found) == sorted(each["kind"] for each in OBJECTS)
    names = {each["metadata"]["name"] for each in found if each["kind"] == "ConfigMap"}
    (deployment,) = [each for each in found if each["kind"] == "Deployment"]
    used = set(re.findall(r"'?name'?: '?(serving-(?:nginx|settings)[\w-]*)", yaml.safe_dump(deployment)))
    assert used == names, "each is found under its name with a digest"
    assert "image: serving-app\n" not in yaml.safe_dump_all(found)


def test_every_file_of_the_folder_is_listed() -> None:
    listed = kustomization(BASE)
    files = {*listed["resources"], *(file for each in listed["configMapGenerator"] for file in each["envs"])}
    assert files == {"../../nginx", *(path.name for path in BASE.iterdir())} - {"kustomization.yaml"}


def test_every_file_of_nginx_is_in_a_config_map() -> None:
    listed = {file for each in kustomization(ROOT / "nginx")["configMapGenerator"] for file in each["files"]}
    there = {str(path.relative_to(ROOT / "nginx")) for path in (ROOT / "nginx").rglob("*") if path.is_file()}
    assert listed == there - {"kustomization.yaml"}


def test_what_is_mounted_is_there() -> None:
    named = {(each["kind"], each["metadata"]["name"]) for each in OBJECTS}
    for pod in (POD, FETCH):
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in named
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in named
        mounts = {
            mount["name"]
            for container in (*pod.get("initContainers", []), *pod["containers"])
            for mount in container.get("volumeMounts", [])
        }
        assert mounts == {volume["name"] for volume in pod["volumes"]}
    document = (ROOT / "docs" / "kubernetes.md").read_text()
    (secret,) = [volume["secret"]["secretName"] for volume in POD["volumes"] if "secret" in volume]
    assert f"create secret generic {secret} --from-file={Path(SETTINGS['API_KEYS_FILE']).name}" in document


def test_what_selects_the_pods_finds_them() -> None:
    server, models = (each["template"]["metadata"]["labels"] for each in (DEPLOYMENT, JOB))
    assert server != models
    assert server == DEPLOYMENT["selector"]["matchLabels"] == _one("Service")["spec"]["selector"]
    assert server == _one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert server == _one("PodMonitor")["spec"]["selector"]["matchLabels"]
    assert models == _one("NetworkPolicy", "serving-models")["spec"]["podSelector"]["matchLabels"]


def test_the_ports_are_those_that_are_listened_on() -> None:
    ports = {port["name"]: port["containerPort"] for each in CONTAINERS.values() for port in each.get("ports", [])}
    environment = {each["name"]: each["value"] for each in NGINX["env"]}
    assert ports == {
        "app": int(SETTINGS["APP_PORT"]),
        "http": int(environment["LISTEN_ADDRESS"]),
        "nginx-metrics": 9113,  # the exporter's own
    }
    assert [port["targetPort"] for port in _one("Service")["spec"]["ports"]] == ["http"]
    assert {end["port"] for end in _one("PodMonitor")["spec"]["podMetricsEndpoints"]} == set(ports) - {"http"}


def test_only_nginx_can_be_reached_and_only_the_fetch_can_call_out() -> None:
    server, models = (_one("NetworkPolicy", name)["spec"] for name in ("serving", "serving-models"))
    for policy in (server, models):
        assert policy["policyTypes"] == ["Ingress", "Egress"]
    for rule in server["ingress"]:
        assert "from" in rule or [port["port"] for port in rule["ports"]] == ["http"]
    assert (server["egress"], models["ingress"], models["egress"]) == ([], [], [{}])


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_has_only_what_it_needs(name: str) -> None:
    container = CONTAINERS[name]
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in security
    assert "lifecycle" not in container
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    service = "app" if name in ("app", "models") else name
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == COMPOSE[service]["user"]
    if service == "app":
        assert container["image"] == "serving-app"
        assert (
            f"\nUSER {security['runAsUser']}:{security['runAsGroup']}\n" in (ROOT / "docker/Dockerfile").read_text()
        )
    else:
        assert container["image"] in COMPOSE[name]["image"]


def test_a_pod_has_only_what_it_needs() -> None:
    for pod in (POD, FETCH):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not any("hostPath" in volume for volume in pod["volumes"])


def test_no_variable_of_a_service_is_taken_for_a_setting() -> None:
    """A service of the name `app` would set APP_PORT=tcp://… in every pod of its namespace."""
    assert POD["enableServiceLinks"] is False
    assert FETCH["enableServiceLinks"] is False


def test_the_gpus_pass_from_pod_to_pod() -> None:
    assert (DEPLOYMENT["replicas"], DEPLOYMENT["strategy"]) == (1, {"type": "Recreate"})
    assert APP["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert not [name for name, each in CONTAINERS.items() if name != "app" and "nvidia" in str(each["resources"])]


def test_what_the_app_gets_are_settings_with_values_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name.upper() for name in Settings.model_fields}
    assert set(SETTINGS) - names == {"HF_HUB_OFFLINE"}
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None).app_port == int(SETTINGS["APP_PORT"])
    for name in ("APP_HOST", "APP_PORT", "CACHE_DIR", "HF_HUB_OFFLINE", "LOG_FOLDER", "MODELS_DIR"):
        assert SETTINGS[name] == COMPOSE["app"]["environment"][name]


def test_nginx_gets_its_variables() -> None:
    environment = {each["name"]: each["value"] for each in NGINX["env"]}
    app = f"127.0.0.1:{SETTINGS['APP_PORT']}"
    values = nginx.variables(
        load_config(SETTINGS, ROOT / "no.env"), listen="6006", internal="127.0.0.1:8081", app=app
    )
    assert environment == values | {"NGINX_ENTRYPOINT_QUIET_LOGS": "1"}
    assert NGINX["args"] == COMPOSE["nginx"]["command"]
    assert "command" not in NGINX, "the image's entrypoint fills in the templates"
    assert values["INTERNAL_ADDRESS"] in " ".join(CONTAINERS["nginx-exporter"]["args"])
    assert values["INTERNAL_ADDRESS"] in " ".join(NGINX["livenessProbe"]["exec"]["command"])


def test_what_is_fetched_is_what_is_served_from_the_same_folder() -> None:
    fetch = CONTAINERS["models"]
    assert fetch["command"] == ["python", "-m", "app", "models", "fetch", SETTINGS["MODEL"]]
    for container, read_only in ((fetch, False), (APP, True)):
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "weights"]
        assert (mount["mountPath"], mount.get("readOnly", False)) == (SETTINGS["MODELS_DIR"], read_only)
    (writable,) = [mount for mount in APP["volumeMounts"] if mount["name"] == "cache"]
    assert writable["mountPath"] == SETTINGS["CACHE_DIR"]


PROBES = {name: APP[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}


def test_the_probes_ask_what_the_app_answers(embedded_model: Path) -> None:
    def answers(engine: ControlledEngine) -> dict[str, int]:
        app = create_app(Settings(_env_file=None), engine, Prompts(embedded_model, SCRIPTED_MODEL), Observers())
        with TestClient(app) as client:
            return {name: client.get(path).status_code for name, path in PROBES.items()}

    assert answers(ControlledEngine()) == dict.fromkeys(PROBES, 200)
    loading = answers(ControlledEngine(ready=False))
    assert loading == {"startupProbe": 503, "livenessProbe": 200, "readinessProbe": 503}
    assert {APP[name]["httpGet"]["port"] for name in PROBES} == {"app"}


def test_the_probes_are_slower_than_what_the_app_does_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {name: APP[name]["periodSeconds"] * APP[name]["failureThreshold"] for name in PROBES}
    assert seconds["startupProbe"] > int(SETTINGS["STARTUP_DEADLINE"]) + 60
    assert DEPLOYMENT["progressDeadlineSeconds"] > seconds["startupProbe"]
    monkeypatch.setenv("DRAIN_SECONDS", SETTINGS["DRAIN_SECONDS"])
    gunicorn = runpy.run_path(str(ROOT / "docker" / "gunicorn.conf.py"))
    assert seconds["livenessProbe"] > gunicorn["timeout"], "gunicorn replaces a stuck worker first"


def test_a_pod_is_killed_only_after_the_ladder_of_deadlines() -> None:
    ladder = load_config(SETTINGS, ROOT / "no.env").stop_seconds
    assert POD["terminationGracePeriodSeconds"] >= ladder + 5
    assert [each["restartPolicy"] for each in POD["initContainers"]] == ["Always"] * 2, "they end after the app"
