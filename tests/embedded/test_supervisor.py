import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.embedded.console import Console
from app.embedded.interrupts import Interrupts
from app.embedded.server import MAX_LOG_BYTES, StartError, spawn
from app.embedded.supervisor import Program, Supervisor

PATIENCE_S = 20.0


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Interrupts() as interrupts:
        supervisor = Supervisor(interrupts, Console())
        yield supervisor
        supervisor.stop()


def python(name: str, script: str, folder: Path, *, grace_s: float = 15.0) -> Program:
    log = folder / f"{name}.log"
    return Program(name, lambda: spawn([sys.executable, "-c", script], log), log, grace_s=grace_s)


def until(condition: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        meanwhile()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_process_that_dies_is_started_again_and_a_line_says_so(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.everything_is_ready()
    supervisor.start(python("worker", "import os, signal; print(os.getpid(), flush=True); signal.pause()", tmp_path))
    pids = tmp_path / "worker.log"
    until(lambda: len(lines(pids)) == 1, lambda: supervisor.step(0.05))
    os.kill(int(lines(pids)[0]), signal.SIGKILL)
    until(lambda: len(lines(pids)) == 2, lambda: supervisor.step(0.05))
    assert lines(pids)[0] != lines(pids)[1]
    output = capsys.readouterr().out
    assert f"worker    ended (signal SIGKILL); starting it again in 0.5 s   log {pids}" in output
    assert "worker    started again" in output


def test_a_process_that_keeps_dying_is_tried_at_growing_intervals(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.everything_is_ready()
    supervisor.start(python("worker", "raise SystemExit(3)", tmp_path))
    seen: list[str] = []

    def watch() -> None:
        supervisor.step(0.05)
        seen.append(capsys.readouterr().out)

    until(lambda: "exit code 3); starting it again in 2 s" in "".join(seen), watch)
    assert [text in "".join(seen) for text in ("again in 0.5 s", "again in 1 s", "again in 4 s")] == [True, True, False]


def test_a_process_that_had_come_to_work_is_started_again_soon_however_often_it_dies(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.start(python("worker", "import os, signal; print(os.getpid(), flush=True); signal.pause()", tmp_path))
    pids = tmp_path / "worker.log"
    until(lambda: len(lines(pids)) == 1, lambda: supervisor.step(0.05))
    supervisor.is_ready("worker")
    supervisor.everything_is_ready()
    for number in range(1, 4):
        stable_at = time.monotonic() + 2
        until(lambda at=stable_at: time.monotonic() > at, lambda: supervisor.step(0.05))
        os.kill(int(lines(pids)[-1]), signal.SIGKILL)
        until(lambda number=number: len(lines(pids)) == number + 1, lambda: supervisor.step(0.05))
    assert capsys.readouterr().out.count("starting it again in 0.5 s") == 3


def test_a_process_that_keeps_dying_at_the_start_ends_the_start_with_its_last_lines(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(python("api", "raise SystemExit('the port is taken')", tmp_path))
    with pytest.raises(StartError, match=r"api ended \(exit code 1\) while starting(.|\n)*the port is taken"):
        until(lambda: False, lambda: supervisor.step(0.05))


def test_processes_are_stopped_in_the_reverse_order_of_their_start(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second", "third"):
        supervisor.start(python(name, "import signal; signal.pause()", tmp_path))
    assert supervisor.stop() is True
    output = capsys.readouterr().out
    assert [line.split()[0] for line in output.splitlines()] == ["third", "second", "first"]
    assert "killed" not in output


def test_a_log_that_grows_large_is_set_aside_while_its_process_goes_on_writing(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    script = f"import signal; print('x' * {MAX_LOG_BYTES}, flush=True); signal.sigwait([signal.SIGUSR1]); print('more')"
    script = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); {script}; signal.pause()"
    supervisor.start(python("api", script.replace("'more'", "'more', flush=True"), tmp_path))
    log, aside = tmp_path / "api.log", tmp_path / "api.log.1"
    until(aside.exists, lambda: supervisor.step(0.05))
    assert aside.stat().st_size == MAX_LOG_BYTES + 1
    [writer] = [child for child in psutil.Process().children() if script[:20] in " ".join(child.cmdline())]
    writer.send_signal(signal.SIGUSR1)
    until(lambda: lines(log) == ["more"], lambda: supervisor.step(0.05))


IGNORES_SIGTERM = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
)


def test_a_process_that_does_not_stop_in_time_is_killed_and_the_stop_was_not_orderly(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.start(python("worker", IGNORES_SIGTERM, tmp_path, grace_s=0.3))
    until(lambda: lines(tmp_path / "worker.log") == ["up"], lambda: supervisor.step(0.05))
    assert supervisor.stop() is False
    assert "worker    killed after 0.3 s" in capsys.readouterr().out


def test_the_first_signal_asks_to_stop_and_the_second_makes_haste(tmp_path: Path) -> None:
    with Interrupts() as interrupts:
        supervisor = Supervisor(interrupts, Console())
        supervisor.start(python("worker", IGNORES_SIGTERM, tmp_path, grace_s=600))
        until(lambda: lines(tmp_path / "worker.log") == ["up"], lambda: supervisor.step(0.05))
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        began = time.monotonic()
        assert supervisor.stop() is False
        assert time.monotonic() - began < 10


LEAVES_CHILDREN = """
import subprocess
same_group = subprocess.Popen(['/bin/sleep', '100'])
own_session = subprocess.Popen(['/bin/sleep', '100'], start_new_session=True)
print(same_group.pid, own_session.pid, flush=True)
"""

SUPERVISES = """
import sys
from pathlib import Path
from app.embedded import start_postgres, start_redis
from app.embedded.console import Console
from app.embedded.interrupts import Interrupts
from app.embedded.server import spawn
from app.embedded.supervisor import Program, Supervisor, adopt_orphans

folder = Path(sys.argv[1])
with Interrupts() as interrupts:
    adopt_orphans()
    supervisor = Supervisor(interrupts, Console())
    supervisor.everything_is_ready()
    try:
        for server in (start_postgres(folder / 'postgres', durable=False), start_redis(folder / 'redis')):
            supervisor.keep(Program(server.name, None, server.log, stop_signal=server.stop_signal), server.process, 0)
        for number, script in enumerate(sys.argv[2:]):
            log = folder / f'{number}.log'
            supervisor.start(Program(f'{number}', lambda: spawn([sys.executable, '-c', script], log), log))
        print('ready', flush=True)
        while True:
            supervisor.step(60)
    except KeyboardInterrupt:
        print('interrupted', flush=True)
    finally:
        supervisor.stop()
"""


def supervising(folder: Path, *scripts: str) -> "subprocess.Popen[str]":
    """A process that supervises PostgreSQL, Redis and scripts; a process group of its own, like a shell's job."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISES, str(folder), *scripts],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "ready\n":
            return process
    raise AssertionError("it ended before it was ready")


def test_ctrl_c_stops_all_in_order_and_leaves_no_process_behind(tmp_path: Path) -> None:
    with supervising(tmp_path, "import signal; signal.pause()") as process:
        descendants = psutil.Process(process.pid).children(recursive=True)
        assert len(descendants) > 5  # PostgreSQL brings some
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    words = [line.split()[:2] for line in output.splitlines()]
    assert words == [["interrupted"], ["0", "stopped"], ["redis", "stopped"], ["postgres", "stopped"]]
    assert [descendant for descendant in descendants if descendant.is_running()] == []


def test_what_a_dead_process_leaves_behind_is_ended(tmp_path: Path) -> None:
    with supervising(tmp_path, LEAVES_CHILDREN) as process:
        until(lambda: len(lines(tmp_path / "0.log")) >= 1, lambda: None)
        left = [int(pid) for pid in lines(tmp_path / "0.log")[0].split()]
        until(lambda: not any(psutil.pid_exists(pid) for pid in left), lambda: None)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_kill_9_of_the_supervising_process_leaves_no_process_behind(tmp_path: Path) -> None:
    with supervising(tmp_path, "import signal; signal.pause()") as process:
        descendants = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(descendants, timeout=PATIENCE_S)
    assert alive == []
    with supervising(tmp_path) as process:  # and what it left in the directory does not hinder the next
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
