"""`python -m benchmarks.chaos`: kill -9 at random among all processes of a service while clients post jobs.

Afterwards every job must have succeeded exactly once, with a consistent history and with the very weights of a run that
nobody disturbed, and no process, row or byte may be left over. tests/faults runs a short one.
"""

import argparse
import random
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil
from openai import OpenAI
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import make_engine, session_factory, transaction
from app.embedded.directory import DataDirectory
from app.embedded.postgres import running_url
from app.storage.database import collect_orphans
from app.tables import Base, Blob, Checkpoint, Job, Model, StoredFile
from benchmarks.job_history import problems_of
from benchmarks.small_encoder import write_small_encoder
from benchmarks.victims import ROLES, Victims, alive
from examples.service import Service, own_service
from worker.run_directories import sweep

DATA = Path(__file__).parent.parent / "examples" / "movie_reviews" / "validation.jsonl"
LOOK_EVERY_S = 0.2
END_TIMEOUT_S = 600.0
SDK_RETRIES = 100  # of one request: a client that does not give up, like a person at a terminal
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Plan:
    """What is to happen. The kills are spread over `seconds`; `model` is the id of a base model."""

    jobs: int
    kills: int
    seed: int
    seconds: float
    model: str
    epochs: int = 8


@dataclass
class Report:
    """What happened."""

    victims: Victims
    attempts: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[str] = field(default_factory=list[str])
    seconds: dict[str, float] = field(default_factory=dict[str, float])


def run(plan: Plan, directory: Path, base_models_dir: Path) -> Report:
    """Start a service in `directory`, wreak havoc, wait for the jobs, judge, stop."""
    settings = {
        "TAILOR_BASE_MODELS_DIR": str(base_models_dir),
        # Two jobs at once, so that a kill strikes more than one.
        "TAILOR_WORKER_SLOTS": "2",
        # A job spends an attempt whenever its process or its worker is killed, and chance may strike one job often.
        "TAILOR_MAX_ATTEMPTS": str(plan.kills + 1),
    }
    data = directory / "data"
    with own_service(data, settings=settings, log=directory / "up.log") as service:
        database_url = running_url(DataDirectory(data).postgres)
        assert database_url is not None
        report = Report(Victims(psutil.Process(service.process.pid), service.url, database_url))
        began = time.monotonic()
        whole = _Client(plan, service, jobs=1)
        whole.work()
        report.problems += whole.await_end(began + END_TIMEOUT_S)
        report.seconds["the undisturbed job"] = time.monotonic() - began

        began = time.monotonic()
        client = _Client(plan, service, plan.jobs, spaces=1)
        thread = threading.Thread(target=client.work, daemon=True)
        thread.start()
        _strike(plan, report.victims)
        report.seconds["the kills"] = time.monotonic() - began
        thread.join(END_TIMEOUT_S)
        report.problems += client.await_end(began + END_TIMEOUT_S, report.victims)
        report.seconds["until the last job's end"] = time.monotonic() - began
        report.problems += _processes_left(report.victims)
        engine = make_engine(database_url)
        with transaction(session_factory(engine)) as session:
            report.problems += _judge(session, plan, whole.created + client.created, report)
        engine.dispose()
    if service.process.returncode != 0:
        report.problems.append(f"the service ended with {service.process.returncode}; {directory / 'up.log'} says why")
    report.problems += [f"process {process.pid} is left over" for process in report.victims.seen if alive(process)]
    sweep(data / "runs")  # as workers do now and then
    report.problems += [f"{path} is left over" for path in sorted((data / "runs").iterdir())]
    return report


class _Client:
    """Uploads files and posts jobs through the SDK, which repeats what fails, as it would for anybody."""

    def __init__(self, plan: Plan, service: Service, jobs: int, *, spaces: int = 0) -> None:
        self._plan = plan
        self._jobs = jobs
        self._spaces = spaces
        self._sdk = OpenAI(base_url=f"{service.url}/v1", api_key=service.key, max_retries=SDK_RETRIES, timeout=20)
        self.created: list[str] = []

    def work(self) -> None:
        """Post all jobs, in the first half of the time that the kills take."""
        # The rows of every client, and not the bytes: those would be prepared already.
        content = DATA.read_bytes().replace(b"}\n", b"}" + b" " * self._spaces + b"\n")
        file = self._sdk.files.create(file=("reviews.jsonl", content), purpose="fine-tune")
        for number in range(self._jobs):
            if number > 0:
                time.sleep(self._plan.seconds / 2 / self._jobs)
            job = self._sdk.fine_tuning.jobs.create(
                model=self._plan.model,
                training_file=file.id,
                validation_file=file.id,
                seed=13,
                # Equal requests in a row are one: the SDK's silent retries cannot be told from them.
                metadata={"number": f"{number}"},
                extra_body={"hyperparameters": {"n_epochs": self._plan.epochs, "batch_size": 4, "eval_interval": 10}},
            )
            self.created.append(job.id)

    def await_end(self, deadline: float, victims: Victims | None = None) -> list[str]:
        """Wait until every job has ended; a problem for each that has not."""
        while True:
            if victims is not None:
                victims.look()
            status = {job_id: self._sdk.fine_tuning.jobs.retrieve(job_id).status for job_id in self.created}
            unfinished = [f"{job_id} is {state}" for job_id, state in status.items() if state not in ENDED]
            if not unfinished or time.monotonic() > deadline:
                return unfinished
            time.sleep(LOOK_EVERY_S)


def _strike(plan: Plan, victims: Victims) -> None:
    """Kill each role equally often, in random order and at random moments."""
    chance = random.Random(plan.seed)
    roles = [ROLES[number % len(ROLES)] for number in range(plan.kills)]
    chance.shuffle(roles)
    for role in roles:
        not_before = time.monotonic() + chance.uniform(0.5, 1.5) * plan.seconds / plan.kills
        while True:
            living = victims.look()
            if time.monotonic() >= not_before and living[role]:
                break
            time.sleep(LOOK_EVERY_S)
        victims.kill(role, chance.choice(living[role]), living)


def _processes_left(victims: Victims) -> list[str]:
    """With nothing to do, a service is one process of each role, and the child that waits is the only child."""
    deadline = time.monotonic() + 60
    while True:
        counts = {role: len(processes) for role, processes in victims.look().items()}
        if counts == dict.fromkeys(ROLES, 1):
            return []
        if time.monotonic() > deadline:
            return [f"the idle service's processes are {counts}"]
        time.sleep(LOOK_EVERY_S)


def _judge(session: Session, plan: Plan, created: list[str], report: Report) -> list[str]:
    problems: list[str] = []
    jobs = session.scalars(select(Job).where(Job.kind == "fine_tuning").order_by(Job.seq)).all()
    if {job.id for job in jobs} != set(created) or len(set(created)) != plan.jobs + 1:
        problems.append(f"{len(created)} jobs were posted and {len(jobs)} are there")
    weights: set[str] = set()
    for job in jobs:
        report.attempts[job.id] = job.attempt
        problems += problems_of(session, job)
        file = session.get(StoredFile, (job.fine_tuned_model or "", "model.safetensors"))
        weights.add(file.sha256 if file else "none")
    if len(weights) != 1:
        problems.append(f"equal jobs made {len(weights)} different models")
    problems += _leftovers(session)
    return problems


def _leftovers(session: Session) -> list[str]:
    """Once the collector has no patience, there is no byte that no row needs, and no row that nothing names."""
    collect_orphans(session, unreferenced_for=timedelta(0))
    keys = [key for table in Base.metadata.sorted_tables for key in table.foreign_keys]
    # What goes with a blob when it is deleted is a part of it; every other key names one that is needed.
    naming = [key.parent for key in keys if key.column.table.name == "blobs" and key.ondelete is None]
    named = {blob_id for column in naming for blob_id in session.scalars(select(column))}
    blobs = session.execute(select(Blob.id, Blob.sha256)).all()
    owners = select(Model.id).union(select(Checkpoint.id))
    strays = session.scalars(select(StoredFile.owner_id).where(StoredFile.owner_id.not_in(owners)).distinct())
    return [
        *(f"blob {blob.id} belongs to nobody" for blob in blobs if blob.id not in named),
        *(f"blob {blob.id} is incomplete" for blob in blobs if blob.sha256 is None),
        *(f"files of {owner} are left over" for owner in strays),
    ]


def main() -> None:
    """Run it and print what was killed, how soon it was back, and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5, help="over which the kills are spread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailor-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        write_small_encoder(directory / "models" / "small")
        plan = Plan(options.jobs, options.kills, options.seed, options.minutes * 60, "local/small")
        report = run(plan, directory, directory / "models")
    show(plan, report)
    if report.problems:
        raise SystemExit(1)


def show(plan: Plan, report: Report) -> None:
    """Print the report."""
    console = Console()
    table = Table(title=f"{plan.kills} kills -9 with seed {plan.seed}, {plan.jobs} jobs")
    for heading in ("killed", "times", "back after (median)", "(longest)"):
        table.add_column(heading, justify="left" if heading == "killed" else "right")
    for role in ROLES:
        kills = [kill for kill in report.victims.kills if kill.role == role]
        times = [kill.recovered_s for kill in kills if kill.recovered_s is not None]
        shown = [f"{statistics.median(times):.1f} s", f"{max(times):.1f} s"] if times else ["", ""]
        table.add_row(role, str(len(kills)), *shown)
    console.print(table)
    for what, seconds in report.seconds.items():
        console.print(f"{what}: {seconds:.0f} s")
    console.print(f"attempts of the jobs: {sorted(report.attempts.values())}")
    for problem in report.problems:
        console.print(f"[red]{problem}[/red]")
    if not report.problems:
        console.print("Every job succeeded once, with the undisturbed one's weights; nothing is lost or left over.")


if __name__ == "__main__":
    main()
