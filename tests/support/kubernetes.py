"""Whether an object of Kubernetes, or of what is installed into it, has the fields of its schema and no others."""

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.kustomize import Object

VERSIONS = ("1.33", "1.37")
"""The first with stable sidecars, and the newest that kubernetes-validate has."""

_SCHEMAS = Path(__file__).parents[1] / "ops"
_WRITTEN = {
    kind: json.loads((_SCHEMAS / f"{kind.lower()}.schema.json").read_text())
    for kind in ("PodMonitor", "InferencePool", "HTTPRoute")
}
"""Of these no package has a JSON schema. They were written by hand from the documentation of their APIs (Prometheus'
operator v0.80, the inference extension v1.6.0, the Gateway API v1): the fields that ours may use, and no others."""

has_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which has kustomize in it, is not installed"
)


def validate(each: Object, version: str) -> None:
    """Raises jsonschema.ValidationError."""
    if each["kind"] in _WRITTEN:
        jsonschema.validate(each, _WRITTEN[each["kind"]])
    else:
        kubernetes_validate.validate(each, version, strict=True)


def built(folder: Path) -> list[Object]:
    """What kubectl makes of a kustomization."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))
