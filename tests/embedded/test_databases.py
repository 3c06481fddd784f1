from pathlib import Path

import pytest

from app.embedded import StartError
from app.embedded.console import Console
from app.embedded.databases import masked, provide_postgres, provide_redis
from app.embedded.directory import DataDirectory
from app.embedded.interrupts import Interrupts
from app.embedded.supervisor import Supervisor


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/tailor", "postgresql://me:***@host:5432/tailor"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://:s@cr:et/@host/0", "redis://:***@host/0"),
        (
            "postgresql:///tailor?host=/run&password=secret&user=me",
            "postgresql:///tailor?host=/run&password=***&user=me",
        ),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_given_servers_are_used_and_none_is_started(
    database_url: str, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = DataDirectory(tmp_path)
    with Interrupts() as interrupts:
        supervisor = Supervisor(interrupts, Console())
        assert provide_postgres(database_url, directory, Console(), supervisor) == database_url
        assert provide_redis(redis_url, directory, Console(), supervisor) == redis_url
    assert list(tmp_path.iterdir()) == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["postgres", "external"], ["redis", "external"]]


def test_a_given_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    given = f"postgresql://me:secret@/tailor?host={tmp_path}"
    with Interrupts() as interrupts, pytest.raises(StartError, match=r"does not answer.*TAILOR_DATABASE_URL") as caught:
        provide_postgres(given, DataDirectory(tmp_path), Console(), Supervisor(interrupts, Console()))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["redis://:secret@127.0.0.1:1/0", "http://:secret@127.0.0.1:1/0"])
def test_a_given_redis_that_does_not_answer_is_named_without_its_password(tmp_path: Path, given: str) -> None:
    with Interrupts() as interrupts, pytest.raises(StartError, match=r"does not answer.*TAILOR_REDIS_URL") as caught:
        provide_redis(given, DataDirectory(tmp_path), Console(), Supervisor(interrupts, Console()))
    assert "secret" not in str(caught.value)
