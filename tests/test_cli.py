import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import text

from app.cli import main
from app.db import SessionFactory, make_engine, transaction
from app.projects import authenticate
from app.settings import Settings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> pytest.MonkeyPatch:
    """The variables of a machine that has a database."""
    monkeypatch.setenv("TAILOR_DATABASE_URL", str(settings.database_url))
    monkeypatch.setenv("TAILOR_REDIS_URL", str(settings.redis_url))
    monkeypatch.setenv("TAILOR_DATA_DIR", str(settings.data_dir))
    return monkeypatch


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The variables of a machine where nothing is set."""
    for name in [name for name in os.environ if name.startswith("TAILOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TAILOR_DATA_DIR", str(tmp_path))
    return monkeypatch


def test_help_and_version_are_shown_without_loading_the_service() -> None:
    script = (
        "import sys; from app.cli import build_parser; build_parser().format_help()\n"
        "print(sorted({'pydantic', 'sqlalchemy', 'fastapi', 'celery', 'psycopg', 'torch'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"tailor {version('tailor')}\n"


def test_the_help_names_the_defaults_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"TAILOR_HOST, else {Settings.model_fields['host'].default})" in shown
    assert f"TAILOR_PORT, else {Settings.model_fields['port'].default})" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["up", "--port", "http"],
        ["keys"],
        ["keys", "create"],
        ["health"],
        ["health", "redis"],
        ["backup"],
        ["restore"],
    ],
)
def test_a_wrong_command_line_ends_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: tailor" in capsys.readouterr().err


def test_a_wrong_setting_is_named_with_its_value(bare: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bare.setenv("TAILOR_LOG_LEVEL", "loud")
    bare.setenv("TAILOR_PORT", "0")
    assert main(["serve"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tailor: ")
    assert error.count("\n") == 1
    assert "TAILOR_LOG_LEVEL='loud'" in error
    assert "TAILOR_PORT='0'" in error


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (["serve"], "TAILOR_DATABASE_URL"),
        (["worker"], "TAILOR_DATABASE_URL"),
        (["worker", "--control"], "TAILOR_DATABASE_URL"),
        (["migrate"], "TAILOR_DATABASE_URL"),
        (["keys", "list"], "TAILOR_DATABASE_URL"),
        (["health", "worker"], "TAILOR_DATABASE_URL"),
    ],
)
def test_a_missing_setting_is_named_with_what_to_do(
    arguments: list[str], variable: str, bare: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"tailor: {variable} is not set")
    assert "`tailor up`" in error


def test_keys_are_made_listed_and_revoked(
    environment: pytest.MonkeyPatch, sessions: SessionFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "create", "--name", "laptop", "--project", "film"]) == 0
    made = capsys.readouterr()
    plaintext = made.out.strip()
    with transaction(sessions) as session:
        assert authenticate(session, plaintext).project == "film"
    id_ = made.err.split()[0]

    assert main(["keys", "list"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "PROJECT", "NAME", "KEY", "CREATED", "REVOKED"]
    assert row.split()[:3] == [id_, "film", "laptop"]
    assert plaintext not in row

    assert main(["keys", "revoke", id_]) == 0
    assert "is revoked" in capsys.readouterr().out
    with transaction(sessions) as session, pytest.raises(Exception, match="revoked"):
        authenticate(session, plaintext)


def test_revoking_an_unknown_key_says_so(
    environment: pytest.MonkeyPatch, sessions: SessionFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "revoke", "key-nothing"]) == 1
    assert capsys.readouterr().err == "tailor: No such key: 'key-nothing'\n"


def test_migrating_twice_is_fine(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == "The schema is up to date.\n"


def test_a_schema_of_another_release_is_refused_in_words(
    environment: pytest.MonkeyPatch, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        known = connection.scalar(text("SELECT version_num FROM alembic_version"))
        connection.execute(text("UPDATE alembic_version SET version_num = 'future'"))
    try:
        assert main(["migrate"]) == 1
        assert capsys.readouterr().err.startswith("tailor: The database's schema is not one that this release")
    finally:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :known"), {"known": known})
        engine.dispose()


@pytest.mark.parametrize("arguments", [["migrate"], ["keys", "list"], ["health", "control"]])
def test_a_database_that_is_away_is_one_sentence(
    arguments: list[str], bare: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare.setenv("TAILOR_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/tailor")
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("tailor: ")
    assert "secret" not in error
    assert "Traceback" not in error
