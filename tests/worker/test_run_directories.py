import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from worker.run_directories import HeldDirectory, sweep

HOLDS = """
import sys
from pathlib import Path
from worker.run_directories import HeldDirectory
held = HeldDirectory(Path(sys.argv[1]))
held.make()
(held.path / "model.safetensors").write_bytes(bytes(1000))
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> "subprocess.Popen[str]":
    """A process that holds a directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    with holder(tmp_path / "killed") as killed, holder(tmp_path / "living") as living:
        assert sweep(tmp_path) == []
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert sweep(tmp_path) == ["killed"]
        assert names(tmp_path) == {"living", ".living.lock"}
        living.kill()


def test_a_directory_of_this_process_is_not_swept_by_itself(tmp_path: Path) -> None:
    held = HeldDirectory(tmp_path / "runs" / "mine")
    held.make()
    assert sweep(tmp_path / "runs") == []
    held.remove()
    assert names(tmp_path / "runs") == set()


def test_making_it_again_empties_it(tmp_path: Path) -> None:
    held = HeldDirectory(tmp_path / "mine")
    held.make()
    (held.path / "half").write_text("x")
    held.make()
    assert names(held.path) == set()
    assert sweep(tmp_path) == []
    held.remove()
    held.remove()
    assert names(tmp_path) == set()


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "thesis.tex").write_text("x")
    assert sweep(tmp_path) == []
    assert names(tmp_path) == {"notes", "thesis.tex"}
    assert sweep(tmp_path / "nothing here") == []


def test_a_run_directory_that_is_gone_already_leaves_no_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "killed") as killed:
        killed.kill()
        killed.wait()
    (tmp_path / "killed" / "model.safetensors").unlink()
    (tmp_path / "killed").rmdir()
    assert sweep(tmp_path) == ["killed"]
    assert names(tmp_path) == set()


def test_sweepers_never_take_a_directory_that_is_being_made(tmp_path: Path) -> None:
    stop, lost = threading.Event(), []

    def sweep_on() -> None:
        while not stop.is_set():
            sweep(tmp_path)

    sweepers = [threading.Thread(target=sweep_on) for _ in range(2)]
    for thread in sweepers:
        thread.start()
    for number in range(300):
        held = HeldDirectory(tmp_path / f"job-{number % 3}")
        held.make()
        (held.path / "plan.json").write_text("{}")
        if sweep(tmp_path) or not (held.path / "plan.json").exists():
            lost.append(number)
        held.remove()
    stop.set()
    for thread in sweepers:
        thread.join()
    assert lost == []
    assert names(tmp_path) == set()


def test_a_disk_that_cannot_be_used_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    held = HeldDirectory(tmp_path / "file" / "job")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        held.make()
    held.remove()
