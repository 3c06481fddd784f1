"""Every setting of Tailor, read once from `TAILOR_*` environment variables."""

import os
from functools import cache
from pathlib import Path
from typing import Literal, Self

import platformdirs
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024
GIB = 1024 * MIB


def default_data_dir() -> Path:
    """The user's data folder (`~/.local/share/tailor` on Linux)."""
    return platformdirs.user_data_path("tailor")


class Settings(BaseSettings):
    """One frozen object. README's table of settings is checked against these fields by a test."""

    model_config = SettingsConfigDict(env_prefix="TAILOR_", frozen=True, extra="ignore")

    database_url: str | None = Field(
        default=None,
        description="PostgreSQL, as `postgresql://user:password@host/database`. Unset: `tailor up` embeds one.",
    )
    redis_url: str | None = Field(
        default=None, description="Redis, as `redis://host:port/0`. Unset: `tailor up` embeds one."
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, description="State of the embedded stack, and run directories of jobs."
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port the API listens on.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Verbosity of the logs."
    )

    base_models_dir: Path | None = Field(
        default=None, description="Directory of Transformers directories; each becomes the base model `local/<name>`."
    )
    hub: Literal["on", "off"] = Field(
        default="off",
        description="`on`: a hub id such as `org/name` may be a base model and is downloaded by the worker.",
    )

    max_file_bytes: int = Field(default=8 * GIB, ge=1, description="Largest file that may be uploaded.")
    upload_lifetime_s: float = Field(
        default=3600, gt=0, description="Time a client has to complete an upload that comes in parts."
    )
    max_request_bytes: int = Field(default=4 * MIB, ge=1024, description="Largest JSON body of a request.")
    max_decompressed_bytes: int = Field(
        default=32 * GIB, ge=1, description="Largest size of a file once decompressed; more is taken for a bomb."
    )
    max_row_bytes: int = Field(default=8 * MIB, ge=1024, description="Longest line or record of a data file.")
    preparation_memory_bytes: int = Field(
        default=4 * GIB,
        ge=512 * MIB,
        description="Memory that parsing a file may take, on top of what its process starts with.",
    )
    preparation_timeout_s: float = Field(default=3600, gt=0, description="Time the preparation of one file may take.")

    lease_s: float = Field(default=60, gt=0, description="A worker that is silent for this long has lost its job.")
    renew_s: float = Field(
        default=10, gt=0, description="Time between a worker's signs of life; cancels are seen then."
    )
    tick_s: float = Field(default=15, gt=0, description="Time between two rounds of the control worker.")
    max_attempts: int = Field(default=3, ge=1, description="How often a job may start before worker losses fail it.")
    cancel_grace_s: float = Field(
        default=10, ge=0, description="Time a cancelled job's process has to stop at a step before its group is killed."
    )
    drain_grace_s: float = Field(
        default=60, ge=0, description="Time a job has to write a checkpoint when its worker is told to stop."
    )
    job_time_limit_s: int | None = Field(
        default=None,
        ge=1,
        description="Longest time that a job may run, pauses and waiting left out; it then fails and keeps its last "
        "checkpoint. A job may ask for less.",
    )
    job_memory_bytes: int | None = Field(
        default=None,
        ge=512 * MIB,
        description="Memory that the process of a job may take beyond what it starts with; more is out of memory for "
        "that job and not for the machine. Not for GPU workers, whose drivers reserve far more than they use.",
    )
    hang_timeout_s: float = Field(
        default=1800,
        gt=0,
        description="A job's process that makes no progress for this long is asked to stop, then killed, and the job "
        "goes on from its last checkpoint in a new one.",
    )
    checkpoint_interval_s: float = Field(
        default=600,
        gt=0,
        description="A running job writes a checkpoint at least this often, besides every evaluation.",
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="Checkpoints kept of a job; the best and the last are always among them."
    )
    checkpoint_retention_days: float = Field(
        default=30,
        ge=0,
        le=36500,
        description="Days that checkpoints stay after their job has ended; those that an unfinished job starts from "
        "stay longer. 36500 keeps them for ever.",
    )
    worker_slots: int = Field(default=1, ge=1, description="Jobs a training worker runs at once: one a device.")
    preparation_slots: int = Field(default=2, ge=1, description="Files a control worker prepares at once.")
    standby: Literal["on", "off"] = Field(
        default="on", description="`on`: a worker keeps a process with torch loaded, so that a job starts at once."
    )
    webhook_private_addresses: Literal["on", "off"] = Field(
        default="off",
        description="`on`: webhooks may go to private addresses and over plain http; for networks of your own.",
    )
    webhook_timeout_s: float = Field(default=10, gt=0, le=30, description="Time a webhook endpoint has to answer.")
    webhook_log_days: int = Field(default=30, ge=1, description="Days that ended webhook deliveries stay in the log.")
    max_webhook_endpoints: int = Field(default=20, ge=1, description="Webhook endpoints a project may have.")
    stream_heartbeat_s: float = Field(
        default=15, gt=0, description="An event stream that has nothing to send says so this often, to be kept open."
    )
    stream_poll_s: float = Field(
        default=15,
        gt=0,
        description="Event streams look for news this often even if no notification from PostgreSQL arrives.",
    )
    database_pool_size: int = Field(default=10, ge=1, description="Database connections a process keeps open.")

    @model_validator(mode="after")
    def _several_renewals_fit_into_a_lease(self) -> Self:
        if self.renew_s * 2 > self.lease_s:
            raise ValueError(
                f"TAILOR_RENEW_S is {self.renew_s:g} and TAILOR_LEASE_S is {self.lease_s:g}: a worker that misses one "
                "sign of life would lose its job. Make the lease at least twice as long as the renewal."
            )
        return self

    @property
    def runs_dir(self) -> Path:
        """Where run directories of jobs lie."""
        return self.data_dir / "runs"

    def require(self, name: Literal["database_url", "redis_url"]) -> str:
        """The URL, or a sentence that says how to set it."""
        value: str | None = getattr(self, name)
        if value is None:
            raise SystemExit(
                f"TAILOR_{name.upper()} is not set. Set it, or run `tailor up`, which starts a server of its own."
            )
        return value


@cache
def get_settings() -> Settings:
    """The process's settings, read at the first call."""
    return Settings()


def environment(settings: Settings) -> dict[str, str]:
    """`os.environ` with every setting as it stands here, for processes started from this one."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return os.environ | {f"TAILOR_{name.upper()}": str(value) for name, value in values.items()}
