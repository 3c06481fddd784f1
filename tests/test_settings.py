import pytest
from pydantic import ValidationError

from app.settings import Settings, environment


def test_a_lease_shorter_than_two_renewals_is_refused_with_both_names():
    with pytest.raises(ValidationError, match=r"TAILOR_RENEW_S is 10 and TAILOR_LEASE_S is 15"):
        Settings(lease_s=15, renew_s=10)


def test_processes_inherit_every_setting_as_it_stands(monkeypatch: pytest.MonkeyPatch):
    settings = Settings(port=8123, hub="on", lease_s=30)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_settings_cannot_change_while_the_process_runs():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]
