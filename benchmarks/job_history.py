"""Whether a job's history is one that could have happened: nothing lost, nothing twice, every start with one end."""

import re
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import Checkpoint, Job, JobEvent, JobMetric, Model, StoredFile

START = re.compile(r"Job started")
# What ends an attempt. A job that succeeds says two sentences in one transaction; the first one counts.
ENDS = re.compile(
    r"Worker lost in attempt|Attempt \d+ of \d+ failed|Worker is shutting down|Worker shut down|New fine-tuned model"
    r"|Job failed|Job cancelled|Job paused|Out of memory with batch size|File prepared"
)
COMPLETED = "The job has successfully completed"


def problems_of(session: Session, job: Job) -> list[str]:
    """What is wrong with the history of a fine-tuning job that succeeded; nothing, one hopes."""
    events = session.scalars(select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.seq)).all()
    found = [*_numbering(events), *_starts_and_ends(events), *_metrics(session, job), *_results(session, job)]
    completed = sum(event.message == COMPLETED for event in events)
    if job.status != "succeeded" or completed != 1:
        found.append(f"status {job.status}, completed {completed} times")
    return [f"{job.id}: {problem}" for problem in found]


def _numbering(events: Sequence[JobEvent]) -> list[str]:
    """What a worker said under one lease is numbered from 1 on, without a gap, in the order in which it is shown."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in events:
        lease, _, number = (event.source or "").partition(":")
        if number.isdecimal():
            numbers[lease].append(int(number))
    return [f"lease {lease} said {said}" for lease, said in numbers.items() if said != list(range(1, len(said) + 1))]


def _starts_and_ends(events: Sequence[JobEvent]) -> list[str]:
    marks = [
        ("start" if START.match(event.message) else "end", event.message)
        for event in events
        if START.match(event.message) or ENDS.match(event.message)
    ]
    expected = ["start", "end"] * (len(marks) // 2)
    if [kind for kind, _ in marks] == expected and marks:
        return []
    return [f"starts and ends do not alternate: {[message for _, message in marks]}"]


def _metrics(session: Session, job: Job) -> list[str]:
    """Every step that was to be measured has each of its numbers. That none has two is a constraint of the table."""
    total = (job.progress or {}).get("total_steps", 0)
    every = job.hyperparameters["eval_interval"]
    expected = {
        # At most a thousand rows of training metrics a run.
        "train": set(range(-(-total // 1000), total + 1, -(-total // 1000) or 1)) | {total},
        "validation": set(range(every, total + 1, every)) | {total} if job.validation_file else set[int](),
    }
    rows = session.execute(select(JobMetric.split, JobMetric.name, JobMetric.step).where(JobMetric.job_id == job.id))
    steps: dict[tuple[str, str], set[int]] = defaultdict(set)
    for split, name, step in rows:
        steps[split, name].add(step)
    problems: list[str] = []
    for split, wanted in expected.items():
        names = [name for measured, name in steps if measured == split]
        if wanted and "loss" not in names:
            problems.append(f"{split} was never measured")
        for name in names:
            missing, more = sorted(wanted - steps[split, name]), sorted(steps[split, name] - wanted)
            if missing or more:
                problems.append(f"{split} {name}: steps {missing} are missing, {more} were not to be measured")
    return problems


def _results(session: Session, job: Job) -> list[str]:
    made = session.scalars(select(Model.id).where(Model.job_id == job.id, Model.kind == "fine_tuned")).all()
    problems = [] if list(made) == [job.fine_tuned_model] else [f"made the models {made}, names {job.fine_tuned_model}"]
    if len(job.result_files) != 1:
        problems.append(f"has the result files {job.result_files}")
    owners = set(session.scalars(select(StoredFile.owner_id).distinct()))
    checkpoints = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job.id))
    return problems + [
        f"checkpoint of step {checkpoint.step} has no weights"  # what only a resume needs goes once a job has succeeded
        for checkpoint in checkpoints
        if checkpoint.model_id not in owners
    ]
