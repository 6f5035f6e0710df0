"""The image and the files that deploy it, read for what they promise: no engine is needed."""

from __future__ import annotations

import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import loader

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, argument) in order, continuation lines joined, comments left out."""
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines()
             if line.strip() and not line.lstrip().startswith("#")]  # fmt: skip
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]  # type: ignore[misc]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, which starts with its FROM."""
    found: list[list[tuple[str, str]]] = []
    for instruction, argument in dockerfile():
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, argument))
    return found


def final(instruction: str) -> list[str]:
    """Every argument of `instruction` in the stage that is shipped."""
    return [argument for name, argument in stages()[-1] if name == instruction]


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


def manifests() -> dict[str, Any]:
    """Kubernetes objects by kind."""
    text = (DOCKER / "kubernetes" / "sidecar.yaml").read_text()
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def sidecar_text() -> str:
    text: str = manifests()["ConfigMap"]["data"]["remora.yaml"]
    return text


FILES = {
    "docker/remora.yaml": lambda: (DOCKER / "remora.yaml").read_text(),
    "docker/kubernetes/sidecar.yaml": sidecar_text,
}


def load(name: str) -> Any:
    return loader.load_text(FILES[name](), name, {"REMORA_ADMIN_TOKEN": "token"})


def seconds(text: str) -> float:
    """compose's durations: 45s, 15m."""
    number, unit = re.fullmatch(r"(\d+)([sm])", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]


# -- the image


def test_the_image_is_built_in_one_stage_and_shipped_from_another() -> None:
    """Both are slim; what is shipped comes from the build and runs no command to get made."""
    build, shipped = stages()
    assert build[0] == ("FROM", "python:3.12-slim AS build")
    assert shipped[0] == ("FROM", "python:3.12-slim")
    assert final("COPY") == ["--from=build /opt/remora /opt/remora"]
    assert final("RUN") == []


def test_the_build_is_given_every_file_the_wheel_is_made_of() -> None:
    """The ignore file lets in exactly what the Dockerfile copies."""
    copied = [argument.split()[:-1] for name, argument in stages()[0] if name == "COPY"]
    wanted = {path for paths in copied for path in paths}
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == wanted
    assert "*" in lines
    assert [path for path in wanted if not (ROOT / path).exists()] == []
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert set(built["targets"]["wheel"]["packages"]) <= wanted


def test_the_image_has_every_coding(tmp_path: Path) -> None:
    """The wheel is installed with the extra `compress`: what the shell hands to pip names it."""
    (command,) = [argument for name, argument in stages()[0]
                  if name == "RUN" and "install" in argument]  # fmt: skip
    wheel = tmp_path / "remora-0.1.0-py3-none-any.whl"
    wheel.touch()
    asked = command[command.index("pip --python") :].replace("/wheels", str(tmp_path))
    shown = subprocess.run(
        ["sh", "-c", 'pip() { printf "%s\\n" "$@"; }; ' + asked],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.splitlines()[-1] == f"{wheel}[compress]"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    codings = {re.split(r"\W", each)[0] for each in project["optional-dependencies"]["compress"]}
    assert codings == {"brotli", "zstandard"}


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    """Kubernetes' runAsNonRoot refuses an image whose user is a name."""
    (user,) = final("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    assert int(gid) > 0


def test_nothing_in_the_image_needs_a_shell() -> None:
    """ENTRYPOINT, CMD and HEALTHCHECK are in exec form, so remora is PID 1 and gets the signals."""
    assert [json.loads(each) for each in final("ENTRYPOINT")] == [["remora"]]
    assert [json.loads(each) for each in final("CMD")] == [
        ["serve", "-c", "/etc/remora/remora.yaml"]
    ]
    assert final("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(health_command())[0] == "python"
    assert set(final("EXPOSE")[0].split()) == {"8080", "9901"}


def test_the_image_writes_nothing_while_it_runs() -> None:
    """No bytecode is written: the root file system may be read-only."""
    (environment,) = final("ENV")
    assert "PYTHONDONTWRITEBYTECODE=1" in shlex.split(environment)


def health_command() -> str:
    (argument,) = final("HEALTHCHECK")
    command: str = argument.partition("CMD ")[2]
    return command


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_tells_a_live_proxy_from_a_dead_one(
    status: int | None, healthy: bool
) -> None:
    """It leaves with 0 for a 200 of /healthz on the admin port, with anything else otherwise."""
    asked: list[str] = []

    class Admin(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    with http.server.HTTPServer(("127.0.0.1", 0), Admin) as server:
        port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        if status is not None:
            thread.start()
        else:
            server.server_close()
        _, *arguments = json.loads(health_command())
        command = [sys.executable, *(each.replace("9901", str(port)) for each in arguments)]
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
        if status is not None:
            server.shutdown()
            thread.join()
    assert (done.returncode == 0) is healthy, done.stderr
    assert asked == ([] if status is None else ["/healthz"])


# -- the files that deploy it


@pytest.mark.parametrize("name", FILES)
def test_a_deployed_file_loads_and_serves_probes(name: str) -> None:
    """remora accepts it, and listens where the other containers and the kubelet can reach it."""
    config = load(name)
    assert [listener.address for listener in config.listen] == ["0.0.0.0:8080"]
    assert config.admin == "0.0.0.0:9901"
    assert config.admin_token.get_secret_value() == "token"


def test_both_deployments_hand_the_admin_token_in() -> None:
    """The files name a variable, and the container has it."""
    environment = compose()["services"]["remora"]["environment"]
    assert "REMORA_ADMIN_TOKEN" in environment
    (remora,) = manifests()["Deployment"]["spec"]["template"]["spec"]["initContainers"]
    assert [each["name"] for each in remora["env"]] == ["REMORA_ADMIN_TOKEN"]


def test_compose_publishes_remora_alone_and_on_loopback() -> None:
    """No client can go round remora, and nobody outside the machine comes in."""
    services = compose()["services"]
    assert set(services) == {"remora", "tgi", "redis"}
    published = {name: each["ports"] for name, each in services.items() if "ports" in each}
    assert published == {"remora": ["127.0.0.1:8080:8080"]}


@pytest.mark.parametrize("name", ["remora", "redis", "tgi"])
def test_compose_takes_away_what_a_service_does_not_need(name: str) -> None:
    """No capabilities, no new privileges; a read-only root wherever the server allows it."""
    service = compose()["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only", False) is (name != "tgi")
    assert "privileged" not in service


def test_workers_find_a_place_to_meet_under_a_read_only_root() -> None:
    """`workers` above 1 need a writable /tmp: both deployments give one that is memory."""
    assert compose()["services"]["remora"]["tmpfs"] == ["/tmp"]
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (mount,) = [each for each in pod["initContainers"][0]["volumeMounts"]
                if each["mountPath"] == "/tmp"]  # fmt: skip
    (volume,) = [each for each in pod["volumes"] if each["name"] == mount["name"]]
    assert volume["emptyDir"]["medium"] == "Memory"


def test_compose_checks_every_service_and_lets_remora_drain() -> None:
    """TGI and Redis bring a check, remora's is in its image; a stop waits for the drain."""
    services = compose()["services"]
    assert services["tgi"]["healthcheck"]["test"][0] == "CMD"
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    drain = load("docker/remora.yaml").drain
    assert seconds(services["remora"]["stop_grace_period"]) > drain.quiet + drain.timeout


def test_composes_remora_is_pointed_at_composes_server() -> None:
    """The endpoint is the tgi service at the port it is started on, on a network both share."""
    services = compose()["services"]
    command = services["tgi"]["command"]
    port = command[command.index("--port") + 1]
    assert load("docker/remora.yaml").upstreams["default"].endpoints == [f"http://tgi:{port}"]
    assert set(services["tgi"]["networks"]) < set(services["remora"]["networks"])
    mounts = [mount.split(":") for mount in services["remora"]["volumes"]]
    assert mounts == [["./remora.yaml", "/etc/remora/remora.yaml", "ro"]]


def test_composes_chain_needs_nothing_but_what_compose_brings() -> None:
    """Its store is the redis service, on a network both share; nothing waits for it to start."""
    services = compose()["services"]
    config = load("docker/remora.yaml")
    assert config.stores.redis.url == "redis://redis:6379/0"
    assert set(services["redis"]["networks"]) < set(services["remora"]["networks"])
    assert "redis" not in services["remora"]["depends_on"]
    assert [one.name for one in config.chain] == [
        "access_log", "cache", "concurrency", "circuit_breaker",
    ]  # fmt: skip
    assert config.chain[1].config.stores == ["memory", "redis"]
    open_ = [route.match.path for route in config.routes if route.chain == []]
    assert open_ == ["/health", "/metrics"]


def test_kubernetes_runs_remora_as_a_sidecar_with_probes_on_the_admin_port() -> None:
    """It starts before the server and ends after it, and the kubelet asks it, not the server."""
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (remora,) = pod["initContainers"]
    assert remora["restartPolicy"] == "Always"
    assert remora["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 9901}
    assert remora["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": 9901}
    allowed = remora["securityContext"]
    assert allowed["runAsNonRoot"] is True
    assert allowed["readOnlyRootFilesystem"] is True
    assert allowed["allowPrivilegeEscalation"] is False
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    (user,) = final("USER")
    assert user == f"{allowed['runAsUser']}:{allowed['runAsGroup']}"


def test_kubernetes_gives_a_pod_the_time_that_its_end_takes() -> None:
    """The grace period holds the server's preStop hook and then remora's whole drain."""
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    held = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = load("docker/kubernetes/sidecar.yaml").drain
    assert held > drain.quiet
    assert pod["terminationGracePeriodSeconds"] > held + drain.quiet + drain.timeout


def test_kubernetes_leads_clients_to_remora_and_remora_to_the_server() -> None:
    """Service to remora's port, remora to the loopback address that the server listens on."""
    objects = manifests()
    template = objects["Deployment"]["spec"]["template"]
    (remora,) = template["spec"]["initContainers"]
    (server,) = template["spec"]["containers"]
    (port,) = objects["Service"]["spec"]["ports"]
    assert port["targetPort"] == 8080
    assert 8080 in [each["containerPort"] for each in remora["ports"]]
    assert "ports" not in server
    labels = template["metadata"]["labels"].items()
    assert objects["Service"]["spec"]["selector"].items() <= labels
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels

    arguments = server["args"]
    host = arguments[arguments.index("--host") + 1]
    of_server = arguments[arguments.index("--port") + 1]
    config = load("docker/kubernetes/sidecar.yaml")
    assert config.upstreams["default"].endpoints == [f"http://{host}:{of_server}"]

    (mount,) = [each for each in remora["volumeMounts"] if each.get("readOnly")]
    (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == mount["name"]]
    assert volume["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert remora["args"] == json.loads(final("CMD")[0])
    assert remora["args"][-1] == f"{mount['mountPath']}/remora.yaml"
