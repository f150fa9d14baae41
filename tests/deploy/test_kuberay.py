"""deploy/kuberay.yaml: what Kubernetes and KubeRay take, and what slobench and Ray take of it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from slobench.config.workers import OnRay, parse_workers

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text())
KUBERNETES = "1.31"
CLAIM, JOB = yaml.safe_load_all((ROOT / "deploy" / "kuberay.yaml").read_text())


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The head's group and those of the workers."""
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def check_pods(job: dict[str, Any]) -> None:
    """Hold the pod templates against Kubernetes' own schema, unknown fields refused."""
    for group in groups(job):
        named = {"metadata": {"name": "pod"}, "template": group["template"]}
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "PodTemplate", **named}, KUBERNETES, strict=True)


def test_the_job_is_one_that_kuberay_takes() -> None:
    """Every field by the schema of KubeRay's custom resource, as far as it is used."""
    jsonschema.Draft202012Validator(SCHEMA).validate(JOB)


def test_pods_and_claim_are_what_kubernetes_takes() -> None:
    """Pod templates and the claim by Kubernetes' own schemas."""
    check_pods(JOB)
    kubernetes_validate.validate(CLAIM, KUBERNETES, strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "entryPoint"), "slobench"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "replicas"), "3"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("apiVersion",), "ray.io/v1alpha1"),
    ],
)
def test_what_kuberay_refuses_is_refused(path: tuple[Any, ...], value: Any) -> None:
    """A misspelt field, a number for a text, a text for a number."""
    broken = deepcopy(JOB)
    at: Any = broken
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(broken)


@pytest.mark.parametrize(("field", "value"), [("envs", []), ("resources", {"limits": {"cpu": []}}), ("image", 7)])
def test_what_kubernetes_refuses_is_refused(field: str, value: Any) -> None:
    """A misspelt field of a container, a limit that is none, a number for an image."""
    broken = deepcopy(JOB)
    groups(broken)[1]["template"]["spec"]["containers"][0][field] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check_pods(broken)


def test_volumes_secrets_and_claims_are_named_alike() -> None:
    """A mount has its volume, the volume its claim; the key comes from a secret and stands nowhere."""
    head = groups(JOB)[0]["template"]["spec"]
    volumes = {each["name"]: each["persistentVolumeClaim"]["claimName"] for each in head["volumes"]}
    assert {each["name"] for each in head["containers"][0]["volumeMounts"]} == set(volumes)
    assert list(volumes.values()) == [CLAIM["metadata"]["name"]]
    words = shlex.split(JOB["spec"]["entrypoint"])
    key = words[words.index("--api-key-env") + 1]
    from_secret = [each for each in head["containers"][0]["env"] if "valueFrom" in each]
    assert [each["name"] for each in from_secret] == [key]


def test_every_worker_has_a_cpu_of_its_own() -> None:
    """The head gives none; the workers that are asked for find theirs; one more is left in each pod for Ray."""
    head, *workers = groups(JOB)
    assert head["rayStartParams"]["num-cpus"] == "0"
    words = shlex.split(JOB["spec"]["entrypoint"])
    asked = parse_workers(words[words.index("--workers") + 1])
    assert isinstance(asked, OnRay)
    given = sum(group["replicas"] * int(group["rayStartParams"]["num-cpus"]) for group in workers)
    assert (asked.workers or sum(group["replicas"] for group in workers)) <= given
    for group in workers:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(limits["cpu"]) > int(group["rayStartParams"]["num-cpus"])


def test_its_command_and_its_flags_of_ray_start_exist() -> None:
    """slobench reads the words of the entry point, and Ray knows the parameters and is of the version pinned."""
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[0] == "slobench"
    asked = {word for word in words if word.startswith("--")}
    help_text = subprocess.run([sys.executable, "-m", "slobench", words[1], "--help"], capture_output=True, check=True)
    assert asked <= set(re.findall(r"--[a-z-]+", help_text.stdout.decode()))
    ray = Path(sys.executable).with_name("ray")
    known = subprocess.run([ray, "start", "--help"], capture_output=True, check=True, text=True).stdout
    for group in groups(JOB):
        assert {f"--{name}" for name in group["rayStartParams"]} <= set(re.findall(r"--[a-z-]+", known))
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert JOB["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
