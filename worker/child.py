"""`python -m worker.child [--preload]`: does one plan and ends. It knows no database, no Redis and no HTTP.

Standard input is its leash: the first line is the path of plan.json, a later `stop` asks for a checkpoint and exit code
75, and end of file (the supervisor is dead) ends it at once. Events go out on what was standard output; whatever a
library prints lands in standard error. Exit codes are those of `worker.protocol`; 1 is a failure that may pass.
"""

import contextlib
import faulthandler
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO

from app.catalog.plan import PLAN, EvaluationPlan, PreparationPlan, RegistrationPlan
from worker.protocol import EXIT_DONE, EXIT_STOPPED, EXIT_USER_ERROR, Event, Log, Result, encode, listing
from worker.training.failures import StoppedError, failure_of, run_directory_lost

EXIT_FAILED = 1
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    # Spinning at barriers loses most of a processor that is shared with anything else: with six busy processes on two
    # cores a training step took 0.9 s in this way and 3 to 7 s without.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def main() -> None:
    """Wait for a plan, do it, exit."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # a supervisor that finds this process hung asks where
    _be_the_first_to_go()
    emit = _take_over_stdout()
    os.environ.update(ENVIRONMENT)  # before torch and Transformers are imported: they read it once
    plan_paths: queue.Queue[str] = queue.Queue()
    stop = threading.Event()
    threading.Thread(target=_watch_stdin, args=(plan_paths, stop), daemon=True).start()
    if "--preload" in sys.argv[1:]:
        from worker.training.warmup import warm_up

        warm_up()
    code = _work(Path(plan_paths.get()), emit, stop)
    sys.stderr.flush()
    # Everything is written; a library's exit handlers can only delay the exit or change its code.
    os._exit(code)


def _be_the_first_to_go() -> None:
    """Where memory runs out, the kernel takes this process, which is retried, and not the worker or a database."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def _work(plan_path: Path, emit: Callable[[Event], None], stop: threading.Event) -> int:
    try:
        plan = PLAN.validate_json(plan_path.read_bytes())
        if isinstance(plan, PreparationPlan):
            _prepare(plan, plan_path.parent, emit)
        elif isinstance(plan, RegistrationPlan):
            _check(plan, plan_path.parent, emit)
        elif isinstance(plan, EvaluationPlan):
            from worker.evaluation.run import run as evaluate

            evaluate(plan, plan_path.parent, emit, stop)
        else:
            from worker.training.run import run

            run(plan, plan_path.parent, emit, stop)
    except StoppedError:
        return EXIT_STOPPED
    except Exception as error:
        failure = failure_of(error) if plan_path.exists() else run_directory_lost(plan_path.parent)
        emit(failure)
        traceback.print_exc()  # may fail itself, where a disk is full
        return EXIT_USER_ERROR if failure.kind == "user_error" else EXIT_FAILED
    return EXIT_DONE


def _prepare(plan: PreparationPlan, run_dir: Path, emit: Callable[[Event], None]) -> None:
    from app.datasets.prepare import prepare

    prepared = prepare(plan, run_dir, lambda message: emit(Log(message)))
    emit(Result(records=prepared.records_path, report=prepared.report))


def _check(plan: RegistrationPlan, run_dir: Path, emit: Callable[[Event], None]) -> None:
    from app.model_files.check import check
    from worker.python_files import PYTHON_FILES

    model = check(plan, run_dir, lambda message: emit(Log(message)), PYTHON_FILES)
    facts = {
        "family": model.family,
        "max_length": model.max_length,
        "left_out": model.left_out,
        "rewritten": model.rewritten,
        "trained": None if model.trained is None else model.trained.model_dump(),
    }
    emit(Result(artifact=model.path, artifact_files=listing(run_dir / model.path), report=facts))


def _take_over_stdout() -> Callable[[Event], None]:
    """Keep standard output for events alone, and return what writes one. Whole lines, from any thread."""
    stream: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def emit(event: Event) -> None:
        line = encode(event)
        with lock:
            stream.write(line)
            stream.flush()

    return emit


def _watch_stdin(plan_paths: queue.Queue[str], stop: threading.Event) -> None:
    """Follow the leash. Reads the descriptor itself: a buffered reader would hold a lock that the exit waits for."""
    buffer = b""
    waiting_for_plan = True
    while chunk := os.read(0, 65536):
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            text = line.decode("utf-8").strip()
            if waiting_for_plan:
                plan_paths.put(text)
                waiting_for_plan = False
            elif text == "stop":
                stop.set()
    os._exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
