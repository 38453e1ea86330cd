"""Settings: what wins over what, and a wrong one named with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.settings import CONFIG_VARIABLE, InvalidSettingsError, load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "homeport.toml"
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    return path


def test_a_server_alone_keeps_its_vault_in_its_data_directory() -> None:
    server = load_settings().server
    assert server.vault_url == "sqlite:////var/lib/homeport/vault.sqlite"
    assert server.host == "127.0.0.1"


def test_the_environment_wins_over_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('[server]\nport = 9000\nlease = 30\ndatabase_url = "sqlite:////x"\n')
    monkeypatch.setenv("HOMEPORT_SERVER__PORT", "9001")
    server = load_settings().server
    assert (server.port, server.lease, server.vault_url) == (9001, 30, "sqlite:////x")


def test_what_others_read_from_the_same_file_is_left_to_them(config: Path) -> None:
    config.write_text('[agent]\nsite = "east"\n')
    assert load_settings().server.port > 0


WRONG = {
    "no such port": ("[server]\nport = 70000\n", "server.port"),
    "no such setting": ("[server]\nprot = 1\n", "server.prot"),
    "a lease of nothing": ("[server]\nlease = 0\n", "server.lease"),
    "not TOML": ("[server\n", "homeport.toml"),
}


@pytest.mark.parametrize(("content", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_named_with_what_to_do(config: Path, content: str, named: str) -> None:
    config.write_text(content)
    with pytest.raises(InvalidSettingsError) as refused:
        load_settings()
    assert named in refused.value.message
    assert refused.value.remedy


@pytest.mark.usefixtures("config")
def test_a_file_that_is_named_must_be_there() -> None:
    with pytest.raises(InvalidSettingsError) as refused:
        load_settings()
    assert CONFIG_VARIABLE in refused.value.cause
