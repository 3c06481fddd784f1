import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.embedded import StartError
from app.embedded.directory import hold

HOLDS = """
import sys
from pathlib import Path
from app.embedded.directory import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_new_directory_is_private_and_free_again_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with hold(path) as directory:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert directory.log("api").parent.is_dir()
        assert (path / "tailor.lock").read_text() == f"{os.getpid()}\n"
    with hold(path):
        pass


def test_a_directory_in_use_names_the_process_and_what_to_do_until_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        expected = rf"in use by process {holder.pid}: stop it, or give another .*--data-dir"
        with pytest.raises(StartError, match=expected), hold(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with hold(tmp_path):
            pass


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(StartError, match="a file is in its way; give another with --data-dir"),
        hold(tmp_path / "file" / below),
    ):
        pass


def test_a_name_that_is_too_long_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="too long"), hold(tmp_path / ("x" * 300)):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StartError, match="let it belong to the user who runs Tailor"), hold(tmp_path / "data"):
        pass
