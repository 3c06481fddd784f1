import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.catalog.plan import PreparationLimits, PreparationPlan, RegistrationPlan
from tests.contract.tiny import Row, make_plan, write_tiny_encoder
from tests.model_files.archives import model_files, tar
from worker.protocol import (
    EXIT_DONE,
    EXIT_STOPPED,
    EXIT_USER_ERROR,
    Checkpoint,
    Event,
    Failure,
    Progress,
    Result,
    decode,
)

ROOT = Path(__file__).parents[2]
ROWS: list[Row] = [
    {"text": "Funny and warm.", "label": "positive"},
    {"text": "Loud and empty.", "label": "negative"},
    {"text": "I would watch it again.", "label": "positive"},
    {"text": "A lazy sequel.", "label": "negative"},
]
LIMITS = PreparationLimits(max_decompressed_bytes=1 << 20, max_row_bytes=1 << 16, memory_bytes=4 << 30, timeout_s=60)
# Imported by Python at every start: a library that prints, through sys.stdout and past it, once stdout is taken over.
CHATTY = """
import os, threading, time
def chatter():
    said = 0
    while said < 1000:
        time.sleep(0.01)
        if os.path.sameopenfile(1, 2):
            print("a progress bar")
            os.write(1, b"a C library ")
            said += 1
threading.Thread(target=chatter, daemon=True).start()
"""


class Child:
    """A real child process, read line by line."""

    def __init__(self, run_dir: Path, *options: str, python: tuple[str, ...] = (), path: Path | None = None) -> None:
        self.stderr = run_dir / "stderr.log"
        environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
        with self.stderr.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *python, "-m", "worker.child", *options],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def let_go(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def events(self) -> Iterator[Event]:
        """Each line must be an event: decode raises for anything else."""
        assert self.process.stdout
        for line in self.process.stdout:
            yield decode(line.decode("utf-8"))

    def wait(self) -> int:
        assert self.process.stdout
        self.process.stdout.read()
        return self.process.wait(timeout=60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(*options: str, python: tuple[str, ...] = (), path: Path | None = None) -> Child:
        children.append(Child(tmp_path, *options, python=python, path=path))
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        with child.process:  # closes its pipes
            pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("base"))


def preparation(run_dir: Path, content: str) -> None:
    (run_dir / "reviews.jsonl").write_text(content)
    plan = PreparationPlan(
        job_id="prep",
        attempt=1,
        source="reviews.jsonl",
        filename="reviews.jsonl",
        task="text-classification",
        columns={},
        limits=LIMITS,
    )
    (run_dir / "plan.json").write_text(plan.model_dump_json())


def test_it_ends_at_once_when_its_supervisor_is_gone_before_there_is_a_plan(start: Callable[..., Child]) -> None:
    child = start()
    child.let_go()
    assert child.wait() == 1


def test_it_ends_at_once_when_its_supervisor_is_gone_in_mid_training(
    start: Callable[..., Child], base: Path, tmp_path: Path
) -> None:
    make_plan(tmp_path, base, ROWS, n_epochs=1000, batch_size=1)
    child = start()
    child.say(str(tmp_path / "plan.json"))
    assert any(isinstance(event, Progress) for event in child.events())
    child.let_go()
    assert child.wait() == 1
    assert not (tmp_path / "artifact").exists()


def test_stop_leaves_a_checkpoint_and_75_and_the_next_child_finishes_the_job(
    start: Callable[..., Child], base: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"n_epochs": 20, "batch_size": 1, "eval_interval": 1000}
    make_plan(tmp_path, base, ROWS, **settings)
    first = start("--preload", path=_chatty(tmp_path))
    first.say(str(tmp_path / "plan.json"))
    events: list[Event] = []
    for event in first.events():
        events.append(event)
        if isinstance(event, Progress):
            first.say("stop")
    assert first.wait() == EXIT_STOPPED
    checkpoint = events[-1]
    assert isinstance(checkpoint, Checkpoint)
    assert "a progress bar" in first.stderr.read_text()

    make_plan(tmp_path, base, ROWS, resume_from=checkpoint.path, **settings)
    second = start("--preload")
    second.say(str(tmp_path / "plan.json"))
    *_, result = second.events()
    assert isinstance(result, Result)
    assert (second.wait(), (tmp_path / "artifact" / "model.safetensors").exists()) == (EXIT_DONE, True)
    # A library that talks, Transformers above all, would show here.
    assert second.stderr.read_text() == ""


def test_data_that_cannot_be_trained_on_are_a_user_error_and_2(
    start: Callable[..., Child], base: Path, tmp_path: Path
) -> None:
    make_plan(tmp_path, base, ROWS[::2])
    child = start()
    child.say(str(tmp_path / "plan.json"))
    (failure,) = child.events()
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.code, failure.param) == ("user_error", "one_label_only", "training_file")
    assert child.wait() == EXIT_USER_ERROR


def test_anything_unforeseen_is_a_system_error_with_its_traceback_on_standard_error(
    start: Callable[..., Child], tmp_path: Path
) -> None:
    preparation(tmp_path, "")
    (tmp_path / "reviews.jsonl").unlink()
    child = start()
    child.say(str(tmp_path / "plan.json"))
    (failure,) = child.events()
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.code) == ("system_error", "internal_error")
    assert failure.message.startswith("FileNotFoundError: ")
    assert child.wait() == 1
    assert "Traceback" in child.stderr.read_text()


def test_a_file_is_prepared_without_loading_torch(start: Callable[..., Child], tmp_path: Path) -> None:
    preparation(tmp_path, '{"text": "Funny.", "label": "positive"}\n{"text": "Empty.", "label": "negative"}\n')
    child = start(python=("-X", "importtime"))
    child.say(str(tmp_path / "plan.json"))
    *_, result = child.events()
    assert isinstance(result, Result)
    assert child.wait() == EXIT_DONE
    assert result.report
    assert (tmp_path / (result.records or "")).exists()
    imported = child.stderr.read_text()
    assert "pyarrow" in imported
    assert "torch" not in imported


def test_a_model_is_checked_without_loading_torch(start: Callable[..., Child], tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(tar(model_files()))
    plan = RegistrationPlan(
        job_id="reg", attempt=1, source="source", filename="bert.tar.gz", model="@default/bert", limits=LIMITS
    )
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    child = start(python=("-X", "importtime"))
    child.say(str(tmp_path / "plan.json"))
    *_, result = child.events()
    assert isinstance(result, Result)
    assert child.wait() == EXIT_DONE
    facts = {"family": "bert", "max_length": 48, "left_out": [], "rewritten": [], "trained": None}
    assert result.report == facts
    assert (tmp_path / (result.artifact or "") / "config.json").exists()
    assert "torch" not in child.stderr.read_text()


def test_a_file_that_cannot_be_prepared_is_a_user_error_that_names_the_line(
    start: Callable[..., Child], tmp_path: Path
) -> None:
    preparation(tmp_path, '{"text": "Funny.", "label": "positive"}\n{"text": "Empty.", "label"\n')
    child = start()
    child.say(str(tmp_path / "plan.json"))
    *_, failure = child.events()
    assert isinstance(failure, Failure)
    assert failure.kind == "user_error"
    assert failure.data["line"] == 2
    assert child.wait() == EXIT_USER_ERROR


def _chatty(directory: Path) -> Path:
    path = directory / "site"
    path.mkdir()
    (path / "sitecustomize.py").write_text(CHATTY)
    return path
