"""What the README says about the files of the deployment: what can be found out without starting containers."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from pydantic import ValidationError
from redis_server import free_port
from topology import DEPLOY, Nginx, compose, in_image

from storefront.middleware import UPLOADS
from storefront.settings import Settings

ROOT = DEPLOY.parents[2]
WORKFLOW = (ROOT / ".github" / "workflows" / "storefront.yaml").read_text()
LINTERS = Path(sys.executable).parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")


def linted(*command: str | Path) -> str:
    """What a linter says against it: nothing, if all is well."""
    found = subprocess.run([LINTERS / command[0], *command[1:]], check=False, capture_output=True, text=True, cwd=ROOT)
    return (found.stdout + found.stderr) if found.returncode else ""


def test_the_files_of_the_deployment_are_linted(tmp_path: Path) -> None:
    files = ("examples/storefront/deploy", ".github")
    workflow, described = ".github/workflows/storefront.yaml", "examples/storefront/deploy/compose.yaml"
    schema = ("check-jsonschema", "--builtin-schema")
    assert linted("hadolint", DEPLOY / "Dockerfile") == ""
    assert linted("yamllint", "--strict", "--config-file", DEPLOY / "yamllint.yaml", *files) == ""
    assert linted(*schema, "vendor.compose-spec", described) == ""
    assert linted(*schema, "vendor.github-workflows", workflow) == ""
    assert subprocess.run(["bash", "-n", DEPLOY / "rollout"], check=False).returncode == 0  # noqa: S607 - any bash
    # And they would say something.
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd / && sudo true\n")
    (tmp_path / "compose.yaml").write_text("services: {api: {image: 1, prots: []}}\n")
    assert "DL3006" in linted("hadolint", tmp_path / "Dockerfile")
    assert "prots" in linted(*schema, "vendor.compose-spec", tmp_path / "compose.yaml")


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    server = Nginx(tmp_path / "nginx", ["127.0.0.1:1", "127.0.0.1:2"], free_port())
    done = subprocess.run([*server.command, "-t"], check=False, capture_output=True, text=True)
    assert (done.returncode, "successful" in done.stderr, "[warn]" in done.stderr) == (0, True, False), done.stderr


def test_nginx_and_the_application_agree_on_the_largest_body() -> None:
    conf = (DEPLOY / "nginx" / "nginx.conf").read_text()
    limits = [Settings.model_fields[name].default for name in ("body_limit", "upload_limit")]
    assert [int(limit) for limit in re.findall(r"client_max_body_size (\d+);", conf)] == limits
    assert re.findall(r"at most ([\d,]+) bytes", conf) == [f"{limit:,}" for limit in limits]


def test_nginx_and_the_application_agree_on_what_is_a_file_and_how_long_one_takes() -> None:
    conf = (DEPLOY / "nginx" / "nginx.conf").read_text()
    ((paths, said),) = re.findall(r'location ~ "\^(/api.+)\$" {\n(.*?)\n {8}}', conf, re.DOTALL)
    assert paths == UPLOADS.pattern
    assert "proxy_request_buffering off;" in said
    # A pause that long ends it; all of it may take what the application says, and only that.
    (pause,) = re.findall(r"client_body_timeout (\d+)s;", said)
    assert timedelta(seconds=int(pause)) < Settings.model_fields["upload_time"].default


def test_what_nginx_tells_the_application_holds_for_every_location() -> None:
    conf = (DEPLOY / "nginx" / "nginx.conf").read_text()
    places = re.findall(r"^ {8}location [^{]*(?:\"[^\"]*\" )?{\n(.*?)^ {8}}", conf, re.MULTILINE | re.DOTALL)
    passing = [place for place in places if "proxy_pass" in place]
    assert len(passing) == conf.count("proxy_pass http") == 2
    assert not re.search(r"proxy_set_header|proxy_pass_header|proxy_ignore_headers", "".join(places))


def test_files_of_products_lie_on_a_volume_that_the_images_user_may_write() -> None:
    described = compose()
    place = described["x-api"]["environment"]["STOREFRONT_UPLOADS"]
    assert described["x-api"]["volumes"] == [f"uploads:{place}"]
    assert [
        name for name, service in described["services"].items() if f"uploads:{place}" in service.get("volumes", [])
    ] == [
        "api-1",
        "api-2",
        "migrate",
    ]
    assert "uploads" in described["volumes"]
    assert f"install --directory --owner storefront --group storefront {place}\n" in DOCKERFILE


def test_events_are_kept_and_the_worker_is_started_again() -> None:
    services = compose()["services"]
    events, worker = services["events"], services["worker"]
    told = dict(pairwise(events["command"]))
    assert (told["--appendonly"], told["--appendfsync"], told["--maxmemory-policy"]) == ("yes", "always", "noeviction")
    assert (events["volumes"], events["tmpfs"], "events" in compose()["volumes"]) == (["events:/data"], [], True)
    assert compose()["x-api"]["environment"]["STOREFRONT_EVENTS_URL"] == "redis://events:6379/0"
    assert (worker["restart"], worker["networks"], worker["environment"]) == (
        "unless-stopped",
        ["data"],
        services["api-1"]["environment"],
    )
    # The image's own asks a port that it does not have.
    assert worker["healthcheck"] == {"disable": True}


def test_nginx_keeps_nothing_of_what_passes() -> None:
    conf = re.sub(r"#.*", "", (DEPLOY / "nginx" / "nginx.conf").read_text())
    assert not re.search(r"\b(proxy_cache|proxy_store|gzip|expires|add_header (?!Retry-After))", conf)
    assert "proxy_buffering off;" in conf


def test_connections_to_the_application_end_at_nginx_first() -> None:
    conf, command = (DEPLOY / "nginx" / "nginx.conf").read_text(), in_image("CMD")
    (upstream,) = re.findall(r"^ {8}keepalive_timeout (\d+)s;", conf, re.MULTILINE)
    assert int(upstream) < int(command[command.index("--timeout-keep-alive") + 1])


def test_a_container_is_given_longer_to_end_than_it_takes() -> None:
    command = in_image("CMD")
    grace = int(command[command.index("--timeout-graceful-shutdown") + 1])
    assert grace < int(compose()["x-api"]["stop_grace_period"].removesuffix("s"))


def copied() -> list[str]:
    """What the image is made of: the sources of each COPY from the repository."""
    found = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [source for line in found for source in line.split()]


def test_what_the_image_is_made_of_is_there_and_not_left_out() -> None:
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    named = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert "*" in rules
    assert sorted(named) == sorted(copied())
    assert all((ROOT / source).exists() for source in copied())
    assert not any(fnmatch(source, "*test*") or ".env" in source for source in copied())


def test_the_image_installs_the_lock_with_hashes_and_is_not_root() -> None:
    assert "--require-hashes --no-deps --only-binary :all:" in DOCKERFILE
    stages = DOCKERFILE.split("\nFROM ")
    assert len(stages) == 3
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", stages[2], re.MULTILINE)
    assert all(re.fullmatch(r"\S+:\d+\.\d+-slim-\w+( AS \w+)?", stage.splitlines()[0]) for stage in stages[1:])
    assert "STOREFRONT_ENVIRONMENT=production" in stages[2]


def test_the_image_holds_all_that_the_application_needs(tmp_path: Path) -> None:
    for source, target in re.findall(r"^COPY (examples/\S+) (\S+)$", DOCKERFILE, re.MULTILINE):
        (tmp_path / target).symlink_to(ROOT / source) if target != "./" else (tmp_path / Path(source).name).symlink_to(
            ROOT / source
        )
    alone = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}",
        "STOREFRONT_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/new.db",
        "STOREFRONT_SECRET": "x7" * 16,
        "STOREFRONT_ENVIRONMENT": "production",
    }
    migrate = [sys.executable, "-m", *compose()["services"]["migrate"]["command"]]
    subprocess.run(migrate, cwd=tmp_path, env=alone, check=True, timeout=50)
    started = "import asyncio; from storefront.main import create_app; from storefront.settings import Settings;"
    script = f"{started} create_app(); print(Settings().catalogue.exists())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=alone, check=True, capture_output=True, text=True, timeout=50
    )
    assert done.stdout.strip() == "True"


def test_only_nginx_is_reached_from_outside() -> None:
    services = compose()["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    assert [
        name for name, service in services.items() if service.get("network_mode") or service.get("privileged")
    ] == []
    assert compose()["networks"]["data"] == {"internal": True}
    assert {name for name, service in services.items() if "front" in service["networks"]} == {"nginx", "api-1", "api-2"}
    assert services["nginx"]["ports"] == ["${STOREFRONT_LISTEN:-127.0.0.1:8080}:8080"]


def test_services_start_when_those_they_need_are_healthy() -> None:
    services = compose()["services"]
    assert services["nginx"]["depends_on"] == {api: {"condition": "service_healthy"} for api in ("api-1", "api-2")}
    for each in ("api-1", "api-2", "worker"):
        assert services[each]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
            "events": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
    assert [
        name for name in ("nginx", "postgres", "redis", "events") if "test" not in services[name]["healthcheck"]
    ] == []
    assert (services["migrate"]["restart"], services["migrate"]["healthcheck"]) == ("no", {"disable": True})


def test_what_is_secret_is_a_file_and_has_no_default(tmp_path: Path) -> None:
    described = compose()
    assert all(re.fullmatch(r"\./secrets/\w+", secret["file"]) for secret in described["secrets"].values())
    assert "secrets" not in " ".join(copied())
    environments = json.dumps([service.get("environment", {}) for service in described["services"].values()])
    assert not re.search(r"(?i)(password|secret)\W+(?!_FILE)[^\"]*\": \"(?!/run/secrets/)", environments)
    secrets = {
        "storefront_secret": "x7" * 16,
        "storefront_database_url": "postgresql+asyncpg://a:b@c/d",
        "storefront_metrics_token": "y8" * 16,
    }
    assert described["x-api"]["secrets"] == list(secrets)
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
    found = Settings(environment="production", _secrets_dir=tmp_path)  # type: ignore[call-arg]
    assert found.metrics_token is not None
    assert found.metrics_token.get_secret_value() == "y8" * 16
    assert (found.secret.get_secret_value(), found.database_url) == ("x7" * 16, "postgresql+asyncpg://a:b@c/d")
    (tmp_path / "storefront_secret").unlink()
    with pytest.raises(ValidationError, match="the one that everybody knows"):
        Settings(environment="production", _secrets_dir=tmp_path)  # type: ignore[call-arg]


def test_a_variable_that_compose_asks_for_is_a_setting() -> None:
    named = {
        name.removeprefix("STOREFRONT_").lower()
        for name in compose()["x-api"]["environment"]
        if name.startswith("STOREFRONT_")
    }
    assert named <= Settings.model_fields.keys()
    assert {name.removeprefix("storefront_") for name in compose()["x-api"]["secrets"]} <= Settings.model_fields.keys()


def test_each_process_may_be_asked_by_its_name_in_the_network() -> None:
    allowed = json.loads(compose()["x-api"]["environment"]["STOREFRONT_ALLOWED_HOSTS"])
    assert allowed == ["127.0.0.1", "api-1", "api-2", "${STOREFRONT_HOST:?the name that clients use}"]


def test_the_workflow_may_do_little_and_uses_what_is_pinned() -> None:
    described: dict[str, Any] = yaml.safe_load(WORKFLOW)
    used = re.findall(r"uses: (\S+)", WORKFLOW)
    assert used
    assert [use for use in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", use)] == []
    assert described["permissions"] == {}
    assert all(job["permissions"] in ({}, {"contents": "read"}) for job in described["jobs"].values())
    assert all("timeout-minutes" in job for job in described["jobs"].values())
    # What comes from outside is never a part of a script.
    scripts = [step["run"] for job in described["jobs"].values() for step in job["steps"] if "run" in step]
    assert [script for script in scripts if "${{" in script] == []


def test_the_workflow_migrates_before_it_rolls_out() -> None:
    steps = [step.get("run", "") for step in yaml.safe_load(WORKFLOW)["jobs"]["deploy"]["steps"]]
    (migrating,) = [n for n, step in enumerate(steps) if "run --rm --no-deps migrate" in step]
    (rolling,) = [n for n, step in enumerate(steps) if step == "./rollout"]
    assert migrating < rolling


DOCKER = """#!/bin/sh
cat nginx/apis.conf >> seen; echo -- >> seen
case "$* $FAILS" in *" $FAILS $FAILS") exit 1;; esac
"""


def test_a_rollout_after_one_that_failed_leaves_somebody_to_ask(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "nginx", tmp_path / "nginx")
    shutil.copy(DEPLOY / "rollout", tmp_path)
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    for fails in ("api-2", "api-1", "nobody"):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILS": fails}
        done = subprocess.run([tmp_path / "rollout"], check=False, env=environment, capture_output=True, timeout=50)
        assert (done.returncode == 0) is (fails == "nobody"), done.stderr
    moments = [moment.count(" down;") for moment in (tmp_path / "seen").read_text().split("--\n")]
    assert max(moments) == 1
    assert " down;" not in (tmp_path / "nginx" / "apis.conf").read_text()


def test_what_the_workflow_makes_the_makefile_knows() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"make (\w+)", "\n".join(re.findall(r"- run: (make .+)", WORKFLOW)))
    assert set(targets) == {"check", "unit", "storefront"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
