"""The whole embedded stack, started once as a user starts it, and driven over HTTP."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
import pytest
from openai import OpenAI

from examples.service import Service, own_service
from tests.contract.tiny import write_tiny_decoder, write_tiny_encoder

DATA = Path(__file__).parents[2] / "examples" / "movie_reviews"
DEADLINE_S = 120


def wait(condition: Callable[[], Any]) -> Any:
    """The condition's value once it is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)
    return value


def running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended. A process may end between any two questions about it."""

    def runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [process for process in processes if runs(process)]


def having(processes: Iterable[psutil.Process], *words: str, without: str = "") -> list[psutil.Process]:
    """Those with all of the words in their command line and not the other one."""

    def fits(process: psutil.Process) -> bool:
        try:
            command = process.cmdline()
        except psutil.NoSuchProcess:
            return False
        return all(word in command for word in words) and without not in command

    return [process for process in processes if fits(process)]


@pytest.fixture(scope="session")
def models_dir() -> Iterator[Path]:
    """A directory of base models with a tiny random encoder and decoder."""
    with TemporaryDirectory(prefix="tailor-models-") as name:
        write_tiny_encoder(Path(name) / "tiny")
        write_tiny_decoder(Path(name) / "tiny-decoder")
        (Path(name) / "pickled").mkdir()
        (Path(name) / "pickled" / "config.json").write_text('{"model_type": "bert"}')
        (Path(name) / "pickled" / "tokenizer.json").write_text("{}")
        (Path(name) / "pickled" / "pytorch_model.bin").write_bytes(b"\x80")
        yield Path(name)


@pytest.fixture(scope="session")
def service(models_dir: Path) -> Iterator[Service]:
    """A running service; its log is printed if a test fails."""
    with TemporaryDirectory(prefix="tailor-e2e-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        log = directory / "up.log"
        settings = {"TAILOR_BASE_MODELS_DIR": str(models_dir)}
        with own_service(directory / "data", settings=settings, log=log) as started:
            yield started
        print(log.read_text())


@pytest.fixture
def openai(service: Service) -> Iterator[OpenAI]:
    """The official SDK, unmodified."""
    with OpenAI(base_url=f"{service.url}/v1", api_key=service.key) as client:
        yield client


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    """Plain HTTP."""
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def uploaded(openai: OpenAI) -> dict[str, str]:
    """The demo's files, prepared."""
    ids: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        with (DATA / f"{split}.jsonl").open("rb") as content:
            file = openai.files.create(file=content, purpose="fine-tune")
        file = openai.files.wait_for_processing(file.id, poll_interval=0.1)
        assert file.status == "processed", file
        ids[split] = file.id
    return ids
