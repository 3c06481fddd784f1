"""A minute in which every process of a service is killed again and again."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.chaos import Plan, run, show
from benchmarks.small_encoder import write_small_encoder


# Two minutes: a service needs seconds to be back after each of its six kinds of processes was killed eight times.
@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_ten_jobs_survive_fifty_kills_each_with_the_weights_of_an_undisturbed_one():
    with TemporaryDirectory(prefix="tailor-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        write_small_encoder(directory / "models" / "small")
        plan = Plan(jobs=10, kills=50, seed=20261125, seconds=60, model="local/small", epochs=2)
        report = run(plan, directory, directory / "models")
        show(plan, report)
        assert report.problems == [], (directory / "up.log").read_text()
    assert len(report.victims.kills) == plan.kills
    assert len(report.attempts) == plan.jobs + 1
    assert sum(report.attempts.values()) > plan.jobs + 1  # some kills struck jobs that ran
