"""No container engine runs here: what Dockerfile, docker-compose.yml and Makefile say is held against the program."""

import io
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from app.cli import build_parser
from app.settings import Settings

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()


def stages() -> dict[str, list[dict[str, str]]]:
    """The instructions of each build target."""
    parser = DockerfileParser(fileobj=io.BytesIO(DOCKERFILE.encode()))
    found: dict[str, list[dict[str, str]]] = {}
    target = ""
    for instruction in parser.structure:
        if instruction["instruction"] == "FROM":
            target = instruction["value"].split(" AS ")[1]
            found[target] = []
        elif target:
            found[target].append(instruction)
    return found


STAGES = stages()


def values(target: str, instruction: str) -> list[str]:
    return [entry["value"] for entry in STAGES[target] if entry["instruction"] == instruction]


def variables(target: str) -> dict[str, str]:
    return dict(word.split("=", 1) for line in values(target, "ENV") for word in shlex.split(line))


def resolved(text: str) -> str:
    """Compose's `${NAME:-default}` and `${NAME:?message}` with nothing set but what must be."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "secret", text)


def parse(command: list[str]) -> Any:
    assert command[0] == "tailor"
    return build_parser().parse_args(command[1:])


def test_the_images_are_an_api_and_a_worker() -> None:
    assert list(STAGES) == ["api", "worker"]


@pytest.mark.parametrize("target", STAGES)
def test_what_an_image_starts_and_checks_is_a_command_of_the_program(target: str) -> None:
    [command] = values(target, "CMD")
    [check] = values(target, "HEALTHCHECK")
    assert parse(json.loads(command)).command == {"api": "serve", "worker": "worker"}[target]
    assert parse(json.loads(check.split(" CMD ")[1])).process == target


@pytest.mark.parametrize("target", STAGES)
def test_what_an_image_copies_exists(target: str) -> None:
    sources = [source for line in values(target, "COPY") for source in line.split()[:-1]]
    assert sources
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


@pytest.mark.parametrize("target", STAGES)
def test_an_image_installs_extras_that_exist_with_pinned_versions_and_does_not_run_as_root(target: str) -> None:
    [install] = [line for line in values(target, "RUN") if "pip install" in line]
    assert "-c constraints.txt" in install
    extras = re.search(r"\.\[([\w,]+)\]", install)
    asked = set(extras[1].split(",")) if extras else set()
    assert asked == {"api": set(), "worker": {"worker", "starter"}}[target]
    assert asked <= set(PROJECT["optional-dependencies"])
    assert values(target, "USER")[-1] not in ("root", "0")


def test_the_api_image_has_no_torch() -> None:
    assert not any("torch" in requirement or "transformers" in requirement for requirement in PROJECT["dependencies"])
    assert "COPY worker" not in "\n".join(entry["content"] for entry in STAGES["api"])


@pytest.mark.parametrize("target", STAGES)
def test_variables_of_an_image_are_settings(target: str) -> None:
    ours = {name: value for name, value in variables(target).items() if name.startswith("TAILOR_")}
    assert_settings(ours)


def assert_settings(given: dict[str, str]) -> None:
    names = {name.removeprefix("TAILOR_").lower() for name in given}
    assert names <= set(Settings.model_fields), names - set(Settings.model_fields)
    Settings.model_validate({name.removeprefix("TAILOR_").lower(): value for name, value in given.items()})


@pytest.mark.parametrize("name", OURS)
def test_a_service_starts_a_command_of_the_program_from_a_target_that_exists(name: str) -> None:
    options = parse(OURS[name]["command"])
    target = OURS[name]["build"]["target"]
    assert target in STAGES
    expected = {"migrate": "migrate", "api": "serve"}.get(name, "worker")
    assert options.command == expected
    assert target == ("worker" if expected == "worker" else "api")
    assert getattr(options, "control", False) == (name == "control")


@pytest.mark.parametrize("name", OURS)
def test_variables_of_a_service_are_settings_that_the_program_accepts(name: str) -> None:
    given = {variable: resolved(str(value)) for variable, value in OURS[name]["environment"].items()}
    assert all(variable.startswith("TAILOR_") for variable in given)
    assert {"TAILOR_DATABASE_URL", "TAILOR_REDIS_URL"} <= given.keys()
    assert_settings(given)


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_checked_by_the_command_for_its_kind_of_process(name: str) -> None:
    if name == "migrate":  # ends by itself
        assert OURS[name]["healthcheck"] == {"disable": True}
        return
    check = OURS[name]["healthcheck"]["test"]
    assert check[0] == "CMD"
    assert parse(check[1:]).process == name.removesuffix("-gpu")


def test_defaults_in_the_compose_file_are_the_programs_own() -> None:
    defaults = dict(re.findall(r"\$\{TAILOR_(\w+):-([^}]*)\}", COMPOSE_TEXT))
    assert defaults
    for name, default in defaults.items():
        field = Settings.model_fields[name.lower()]
        assert Settings.model_validate({name.lower(): default}).model_dump()[name.lower()] == field.default, name


def test_the_published_port_is_the_one_that_is_exposed_and_listened_on() -> None:
    [exposed] = values("api", "EXPOSE")
    assert int(exposed) == Settings.model_fields["port"].default
    assert variables("api")["TAILOR_PORT"] == exposed
    assert str(SERVICES["api"]["environment"]["TAILOR_PORT"]) == exposed
    assert resolved(SERVICES["api"]["ports"][0]).endswith(f":{exposed}:{exposed}")


def test_database_and_broker_are_reached_at_their_services_names_and_ports() -> None:
    for name, variable in (("postgres", "TAILOR_DATABASE_URL"), ("redis", "TAILOR_REDIS_URL")):
        place = urlsplit(resolved(SERVICES["api"]["environment"][variable]))
        assert place.hostname == name
        assert str(place.port) == resolved(SERVICES[name]["ports"][0]).rsplit(":", 1)[1]
    database = urlsplit(resolved(SERVICES["api"]["environment"]["TAILOR_DATABASE_URL"]))
    assert database.username == SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    assert database.path == "/" + SERVICES["postgres"]["environment"]["POSTGRES_DB"]


def test_nothing_is_published_beyond_this_machine_and_no_password_is_written_down() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert resolved(port).startswith("127.0.0.1:")
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "AUTH" in name:
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value)
    assert "PASSWORD:-" not in COMPOSE_TEXT


def test_services_wait_for_services_that_exist_and_can_be_waited_for() -> None:
    for service in SERVICES.values():
        for name, wish in service.get("depends_on", {}).items():
            if wish["condition"] == "service_healthy":
                assert "test" in SERVICES[name]["healthcheck"]
            else:
                assert wish["condition"] == "service_completed_successfully"
                assert "restart" not in SERVICES[name]


def test_a_worker_is_given_longer_to_stop_than_its_jobs_are_given_to_write_a_checkpoint() -> None:
    for name in ("worker", "worker-gpu", "control"):
        grace = re.fullmatch(r"(\d+)m", SERVICES[name]["stop_grace_period"])
        assert grace is not None
        assert int(grace[1]) * 60 >= Settings.model_fields["drain_grace_s"].default + 30
        assert SERVICES[name]["init"] is True


def test_named_volumes_are_declared_and_all_used() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith("$")}
    assert named == set(COMPOSE["volumes"])


def test_build_arguments_in_the_compose_file_are_ones_that_the_dockerfile_takes() -> None:
    taken = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    for service in OURS.values():
        assert set(service["build"].get("args", {})) <= taken


def test_no_image_name_carries_a_registry_host() -> None:
    images = re.findall(r"^ARG \w+_BASE=(\S+)", DOCKERFILE, re.MULTILINE)
    images += [service["image"] for service in SERVICES.values()]
    for image in images:
        assert "." not in image.split("/")[0].split(":")[0] or "/" not in image, image


def test_the_api_health_check_asks_a_route_that_the_api_has() -> None:
    from app.main import create_app

    source = (ROOT / "app" / "health.py").read_text()
    stack = (ROOT / "app" / "embedded" / "stack.py").read_text()
    asked = set(re.findall(r'"(/\w+z)"', source + stack))
    assert asked == {"/healthz", "/readyz"}
    paths = create_app().openapi()["paths"]
    assert asked <= set(paths)


def test_every_dependency_is_pinned_to_one_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert not any("+" in version for version in pins.values())
    pinned = {normalised(name) for name in pins}
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = {normalised(re.split(r"[\[<>=;! ]", requirement)[0]) for group in groups for requirement in group}
    assert wanted <= pinned, wanted - pinned


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_makefile_installs_all_but_what_gpus_need_with_pinned_versions_and_has_the_words_people_type() -> None:
    extras = re.search(r"-c constraints\.txt -e '\.\[([\w,]+)\]'", MAKEFILE)
    assert extras is not None
    # bitsandbytes is of use to GPUs only, and PEFT imports it wherever it is.
    assert set(extras[1].split(",")) == set(PROJECT["optional-dependencies"]) - {"qlora"}
    targets = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))
    assert {"demo", "serve", "test", "check", "bench", "help", "clean"} <= targets
    for command in re.findall(r"\$\(BIN\)/tailor (.*)", MAKEFILE):
        build_parser().parse_args(command.split())
    for path in re.findall(r"(?:\$\(BIN\)/python|pytest --quiet) (\S+\.py)", MAKEFILE):
        assert (ROOT / path).exists(), path


def test_ci_runs_check_and_test_through_an_executable_script() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "make check test"
