"""
Settings, parsed once at start: the environment first, then a TOML file, then what is here.

`HOMEPORT_SERVER__PORT=9000` and, in the file, `[server]` with `port = 9000` say the same. The file
is the one that `HOMEPORT_CONFIG` names, if any.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from homeport.errors import RefusedError

CONFIG_VARIABLE = "HOMEPORT_CONFIG"


class InvalidSettingsError(RefusedError):
    """A setting that is none, or has no such value."""

    code = "InvalidSettings"


class ServerSettings(BaseModel):
    """The server's. Spans are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_dir: Path = Path("/var/lib/homeport")
    database_url: str = ""  # empty: SQLite in the data directory
    host: str = "127.0.0.1"
    port: int = Field(default=8740, ge=0, le=65535)
    lease: float = Field(default=60.0, gt=0)  # an agent's silence until its work counts as lost
    hub_interval: float = Field(default=0.1, gt=0)
    look_interval: float = Field(default=0.5, gt=0)
    queue_interval: float = Field(default=0.25, gt=0)
    net_interval: float = Field(default=1.0, gt=0)  # between looks for other servers' changes
    timer_interval: float = Field(default=10.0, gt=0)  # between looks at policies' commit timers
    runs_kept: float = Field(default=2_592_000.0, gt=0)  # the engine's record of an ended job
    sweep_interval: float = Field(default=86_400.0, gt=0)  # between looks for such records
    jobs_at_once: int = Field(default=50, ge=1)
    beat_every: float = Field(default=5.0, gt=0)
    leave_after: float = Field(default=10.0, gt=0)
    dead_after: float = Field(default=15.0, gt=0)
    take_over: bool = True  # False after a restore, until a person has looked
    log_level: str = "warning"

    @property
    def vault_url(self) -> str:
        """Where the vault is."""
        return self.database_url or f"sqlite:///{self.data_dir / 'vault.sqlite'}"


class AgentSettings(BaseModel):
    """An agent's: one for each hypervisor host."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str = "http://127.0.0.1:8740"
    site: str = ""
    host: str = ""  # empty: this machine's name
    token: str = Field(default="", repr=False)
    state_dir: Path = Path("/var/lib/homeport-agent")
    libvirt_uri: str = "qemu:///system"
    wait: float = Field(default=20.0, gt=0)  # seconds of a long poll
    immutable_files: bool = True  # of a fenced machine, where the file system can
    guestfs_kernel: Path | None = None  # an unpacked kernel package, where /boot has no kernel
    log_level: str = "info"


class Settings(BaseSettings):
    """All of Homeport's, by part."""

    model_config = SettingsConfigDict(
        env_prefix="HOMEPORT_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    server: ServerSettings = ServerSettings()
    agent: AgentSettings = AgentSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was passed, then the environment, then the file; no `.env`, no secrets folder."""
        del dotenv_settings, file_secret_settings
        file = TomlConfigSettingsSource(settings_cls, os.environ.get(CONFIG_VARIABLE))
        return (init_settings, env_settings, file)


def load_settings() -> Settings:
    """
    The settings of this process.

    Raises:
        InvalidSettingsError: the first setting that is not what it should be, by its name.
    """
    config = os.environ.get(CONFIG_VARIABLE)
    if config is not None and not Path(config).is_file():
        raise InvalidSettingsError(
            f"There is no settings file {config}.",
            cause=f"{CONFIG_VARIABLE} names it.",
            remedy=f"Make the file, or unset {CONFIG_VARIABLE}.",
        )
    try:
        return Settings()
    except ValidationError as error:
        found = error.errors()[0]
        name = ".".join(str(part) for part in found["loc"])
        raise InvalidSettingsError(
            f"Setting {name}: {found['msg']}.",
            cause=f"It has the value {found['input']!r}.",
            remedy="Correct it in the environment or in the settings file.",
        ) from error
    except ValueError as error:
        raise InvalidSettingsError(
            f"The settings file {config} cannot be read: {error}.",
            cause="It is not TOML.",
            remedy="Correct the line named here.",
        ) from error
