import stat
from pathlib import Path

import pytest

from app.db import SessionFactory, transaction
from app.embedded.keyfile import ensure_key
from app.projects import authenticate, list_keys, revoke_key


def project_of(sessions: SessionFactory, path: Path) -> str:
    with transaction(sessions) as session:
        return authenticate(session, path.read_text().strip()).project


def test_the_key_opens_the_project_default_and_only_its_user_reads_it(sessions: SessionFactory, tmp_path: Path) -> None:
    path = tmp_path / "api_key"
    ensure_key(sessions, path)
    assert project_of(sessions, path) == "default"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["api_key"]


def test_a_key_that_works_is_kept(sessions: SessionFactory, tmp_path: Path) -> None:
    path = tmp_path / "api_key"
    ensure_key(sessions, path)
    before = path.read_text()
    ensure_key(sessions, path)
    assert path.read_text() == before


@pytest.mark.parametrize("spoil", ["lost", "revoked", "of another database"])
def test_a_key_that_does_not_work_is_replaced(sessions: SessionFactory, tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "api_key"
    ensure_key(sessions, path)
    before = path.read_text()
    if spoil == "lost":
        path.unlink()
    elif spoil == "revoked":
        with transaction(sessions) as session:
            revoke_key(session, list_keys(session)[0].id)
    else:
        path.write_text("tlr-other\n")
    ensure_key(sessions, path)
    assert path.read_text() != before
    assert project_of(sessions, path) == "default"
