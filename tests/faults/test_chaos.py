"""Everything is killed at random, again and again, while clients post jobs."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.chaos import Plan, run, show

pytestmark = [pytest.mark.e2e, pytest.mark.chaos]


# Fifty processes have to come back, many of them with torch to load: a minute and a half on two cores.
@pytest.mark.timeout(1500)
def test_ten_jobs_end_once_and_exactly_whatever_of_fifty_processes_is_killed_meanwhile(models_dir: Path):
    plan = Plan(jobs=10, kills=50, seed=7, seconds=50, model="local/tiny")
    with TemporaryDirectory(prefix="tailor-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        report = run(plan, directory, models_dir)
        show(plan, report)
        print((directory / "up.log").read_text())
    assert report.problems == []
    kills = Counter(kill.role for kill in report.victims.kills)
    assert sum(kills.values()) == 50
    assert min(kills.values()) >= 8
    assert max(report.attempts.values()) > 1  # the kills did strike
