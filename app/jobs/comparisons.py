"""Two evaluations of the same rows, compared. A process of its own computes the tests: `python -m app.comparison`."""

import contextlib
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sqlalchemy.orm import Session

from app.catalog.measures import Statistics
from app.catalog.tasks import TASKS
from app.errors import AppError
from app.jobs import evaluations
from app.jobs.evaluations import STATISTICS
from app.projects import Caller
from app.registry import models
from app.storage.blobs import BlobStore
from app.tables import File, Job

TIMEOUT_S = 120.0
ALPHA = 0.05
AT_ONCE = threading.BoundedSemaphore(2)  # each is a process that keeps a core busy


@dataclass(frozen=True)
class Side:
    """One of the two."""

    id: str
    model: str
    statistics: Statistics
    blob_id: uuid.UUID
    bytes: int


@dataclass(frozen=True)
class Pair:
    """Two evaluations that can be compared. `metric` is the one that the verdict is about."""

    a: Side
    b: Side
    file: str
    task: dict[str, Any]
    metric: str


@dataclass(frozen=True)
class Comparison:
    """`metrics` are those of `app.comparison.paired.Difference`, `mcnemar` is its Discordance, if there is one."""

    pair: Pair
    seed: int
    rows: int
    metrics: list[dict[str, Any]]
    mcnemar: dict[str, Any] | None
    verdict: str
    significant: bool
    better: str | None


def load(session: Session, caller: Caller, a_id: str, b_id: str, metric: str | None) -> Pair:
    """Raises AppError 404, 409 for evaluations that have not succeeded, 400 for those that are of different things."""
    a, b = (evaluations.get(session, caller, id_) for id_ in (a_id, b_id))
    _refuse_unfinished([a, b])
    _refuse_different_tasks(a, b)
    _refuse_different_files(session, a, b)
    sides = [_side(session, job) for job in (a, b)]
    names = [measure.name for measure in sides[0].statistics.measures if measure in sides[1].statistics.measures]
    if not names or (metric is not None and metric not in names):
        raise AppError(
            400,
            "unknown_metric",
            f"metric is {metric!r}; evaluations {a.id} and {b.id} can be compared by: {', '.join(names) or 'nothing'}.",
            "metric",
            {"allowed": names},
        )
    selection = TASKS[a.spec["task"]["type"]].variant(a.spec["task"]).selection_metric
    chosen = metric or (selection if selection in names else names[0])
    assert a.test_file is not None
    return Pair(sides[0], sides[1], a.test_file, a.spec["task"], chosen)


def _refuse_unfinished(jobs: Sequence[Job]) -> None:
    if all(job.status == "succeeded" for job in jobs):
        return
    states = " and ".join(f"evaluation {job.id} is {job.status}" for job in jobs)
    message = f"{states[0].upper()}{states[1:]}; only evaluations that have succeeded can be compared."
    raise AppError(409, "evaluation_not_succeeded", message, extra={"allowed": ["succeeded"]})


def _refuse_different_tasks(a: Job, b: Job) -> None:
    kinds = [_kind(job) for job in (a, b)]
    if kinds[0] != kinds[1]:
        message = (
            f"Evaluation {a.id} is of {kinds[0]} and evaluation {b.id} of {kinds[1]}; only evaluations of the same "
            "task can be compared."
        )
        raise AppError(400, "different_tasks", message, "b")


def _kind(job: Job) -> str:
    task = job.spec["task"]
    spec = TASKS[task["type"]]
    return f"{spec.name} ({spec.variant(task).name})" if len(spec.variants) > 1 else spec.name


def _refuse_different_files(session: Session, a: Job, b: Job) -> None:
    files = [session.get_one(File, job.test_file) for job in (a, b)]
    if files[0].sha256 != files[1].sha256:
        message = (
            f"Evaluation {a.id} is on file {files[0].id} ({files[0].filename}) and evaluation {b.id} on file "
            f"{files[1].id} ({files[1].filename}), whose contents differ; a comparison needs the same rows. Evaluate "
            "both models on one file."
        )
        raise AppError(400, "different_files", message, "b")
    if a.spec["columns"] != b.spec["columns"]:
        message = (
            f"Evaluation {a.id} reads the columns {json.dumps(a.spec['columns'])} and evaluation {b.id} "
            f"{json.dumps(b.spec['columns'])}; evaluate both models on the same columns."
        )
        raise AppError(400, "different_columns", message, "b")


def _side(session: Session, job: Job) -> Side:
    assert job.model is not None
    assert job.metrics is not None
    stored = models.get_file(session, job.id, STATISTICS)
    statistics = Statistics.model_validate(job.metrics["statistics"])
    return Side(job.id, job.model, statistics, stored.blob_id, stored.bytes)


def compare(pair: Pair, blobs: BlobStore, seed: int) -> Comparison:
    """Compute the tests. Takes no transaction. Raises AppError 400 for rows with different right answers, 503."""
    question = {
        "seed": seed,
        "a": pair.a.statistics.model_dump(mode="json"),
        "b": pair.b.statistics.model_dump(mode="json"),
        "bytes": [pair.a.bytes, pair.b.bytes],
    }
    matrices = chain.from_iterable(blobs.read(side.blob_id) for side in (pair.a, pair.b))
    answer = _ask(chain([json.dumps(question).encode() + b"\n"], matrices))
    if answer["different_rows"]:
        message = (
            f"Evaluations {pair.a.id} and {pair.b.id} disagree about the right answer of {answer['different_rows']:,} "
            f"rows of file {pair.file}: it was read differently. Evaluate both models anew."
        )
        raise AppError(400, "different_rows", message, "b")
    measured = {metric["name"]: metric for metric in answer["metrics"]}
    chosen = measured[pair.metric]
    significant = chosen["p_value"] < ALPHA
    better: str | None = None
    if significant:
        better = "b" if (chosen["difference"] > 0) != chosen["lower_is_better"] else "a"
    return Comparison(
        pair,
        seed,
        answer["rows"],
        answer["metrics"],
        answer["mcnemar"],
        _verdict(pair, chosen, answer["rows"], better),
        significant,
        better,
    )


def _ask(question: Iterable[bytes]) -> dict[str, Any]:
    """What the process answers. It is fed piece by piece: statistics of a million rows are 50 MB a side."""
    if not AT_ONCE.acquire(timeout=TIMEOUT_S):
        raise AppError(503, "too_busy", "Other comparisons are being computed; try again in a minute.")
    try:
        command = [sys.executable, "-m", "app.comparison"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code tells how
                    for piece in question:
                        process.stdin.write(piece)
                stdout, stderr = process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                message = f"The comparison took longer than {TIMEOUT_S:g} s and was given up; compare on fewer rows."
                raise AppError(503, "comparison_timeout", message) from None
            finally:
                process.kill()
    finally:
        AT_ONCE.release()
    if process.returncode != 0:
        raise RuntimeError(f"app.comparison ended with {process.returncode}: {stderr.decode(errors='replace')[-2000:]}")
    return json.loads(stdout)


def _verdict(pair: Pair, found: dict[str, Any], rows: int, better: str | None) -> str:
    """What the numbers mean, in a plain sentence or two."""
    name, low, high = found["name"], *found["interval"]
    names = {"a": f"a ({pair.a.model})", "b": f"b ({pair.b.model})"}
    measured = (
        f"{name} is {found['a']:.4g} for a and {found['b']:.4g} for b, a difference of {found['difference']:+.4g} "
        f"(95 % interval {low:+.4g} to {high:+.4g}, p = {found['p_value']:.2g}, {rows:,} rows)."
    )
    if better is not None:
        other = "a" if better == "b" else "b"
        return (
            f"The difference is real: {names[better]} is better than {names[other]}. {measured} If the two were "
            f"equally good, so large a difference would come about by chance less than once in {1 / ALPHA:g} times."
        )
    if found["difference"] == 0:
        return f"There is no difference between {names['a']} and {names['b']}: {measured}"
    return (
        f"No real difference between {names['a']} and {names['b']} can be told: {measured} So large a difference comes "
        "about by chance too easily; more rows would tell smaller ones."
    )
