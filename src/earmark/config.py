"""Settings: `EARMARK_*` environment variables, read once by the command line; its flags win over them."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from earmark.errors import InvalidRequest

PREFIX = "EARMARK_"
DEFAULT_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif")

ISSUER_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

TEN_YEARS_SECONDS = 315_360_000
"""The longest that the ledger holds."""
LARGEST = 2**63 - 1
MAY_BE_EMPTY = frozenset({"cors_origins", "webhook_secrets", "image_resources"})

Seconds = Annotated[float, Field(gt=0, le=TEN_YEARS_SECONDS)]


class Settings(BaseSettings):
    """Everything that can be set. Durations are seconds, sizes are bytes.

    Raises:
        pydantic.ValidationError: A variable does not parse; the message names it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    home: Path = Path("var")
    """Folder of the embedded PostgreSQL, the local store and the local sign-in secret."""
    database_url: SecretStr | None = None
    """PostgreSQL 15 or newer; unset: the embedded server under `home`."""
    database_connections: Annotated[int, Field(ge=2, le=1000)] = 8
    """How many connections to it each process keeps at most; the one that processes images has up to 3 more."""
    storage_url: str | None = None
    """`s3://bucket/prefix` and the like; unset: the local store under `home`."""
    host: str = "127.0.0.1"
    """Address that `earmark serve` listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8787
    """Its port; 0: any that is free."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that serve HTTP, all on the same port; each has database connections of its own."""
    shutdown_grace_seconds: Annotated[int, Field(ge=1, le=3600)] = 5
    """What open requests get to finish when the service is told to stop."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 0
    """How long the service goes on, but says that it is not ready, before it stops: for a balancer to notice."""
    public_url: str | None = None
    """Where browsers reach the service, with the path that a proxy may take away; unset: wherever a request says."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated origins, such as https://app.example, whose pages may call the API; `*`: those of anybody."""
    hsts_seconds: Annotated[int, Field(ge=0, le=TEN_YEARS_SECONDS)] = 0
    """How long browsers are to come by HTTPS alone (Strict-Transport-Security), where your proxy does not say so; 0:
    not said. For so long they do not come without TLS any more, so begin with an hour."""
    default_plan: str | None = None
    """Plan of a subject seen for the first time; unset: `pro` with the embedded server, else he is refused."""
    jwt_secret: SecretStr | None = None
    """HS256 secret of the bearer tokens; unset: one is made and kept under `home`."""
    jwks_url: str | None = None
    """Where the issuer of the bearer tokens publishes its keys; set: our own secret counts only if it is set, too."""
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = ("RS256", "ES256", "EdDSA")
    """Comma-separated algorithms that the issuer may sign with."""
    jwt_issuer: str | None = None
    """What `iss` of a bearer token must be; unset: whatever it is."""
    jwt_audience: str | None = None
    """What `aud` of a bearer token must be, or hold; unset: whatever it is."""
    fault: str | None = None
    """For tests of recovery only: where the process is to die, such as `uploaded:kill@3`; see `earmark.faults`."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """`auto`: for people on a terminal, JSON elsewhere."""
    metrics_host: str = "127.0.0.1"
    """Address on which `earmark worker` answers `/metrics`, `/healthz` and `/readyz`, where it has a port for it."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Its port; unset: it answers nothing. `earmark serve` answers them at its own address."""

    upload_ttl_seconds: Seconds = 900
    """From the reservation until the upload must have begun: so long its URLs are good."""
    upload_grace_seconds: Annotated[float, Field(ge=0, le=TEN_YEARS_SECONDS)] = 300
    """How much longer an upload that began in time is waited for."""
    queue_ttl_seconds: Seconds = 3600
    """From a complete upload until a worker must have started on it."""
    processing_ttl_seconds: Seconds = 60
    """Between two heartbeats of a worker; after that it is taken for dead."""
    evidence_ttl_seconds: Seconds = 120
    """How long a hold outlives its stage's deadline, so that the sweeper can look at the evidence first."""
    abandon_after_seconds: Seconds = 86_400
    """How long an uploaded image may wait for a worker in all, however often its job is re-driven."""
    answer_retention_seconds: Seconds = 604_800
    """How long what was answered under an Idempotency-Key is remembered, where the ledger does not remember it."""
    sweep_interval_seconds: Seconds = 5
    """Between two looks of the worker for what is overdue."""
    tally_interval_seconds: Seconds = 5
    """Between two times that the worker counts what is new in the journal, for the metrics."""
    verify_interval_seconds: Annotated[float, Field(ge=0, le=TEN_YEARS_SECONDS)] = 86_400
    """After how long the worker verifies all the books again, for the metrics; 0: never."""
    processing_attempts: Annotated[int, Field(ge=1, le=100)] = 4
    """How often processing is tried before it has failed for good."""
    retry_base_seconds: Seconds = 1
    """Longest wait before the second attempt; it doubles with each further one, and each wait is from half of it on."""
    retry_cap_seconds: Seconds = 60
    """It does not grow beyond this."""

    max_file_bytes: Annotated[int, Field(gt=0, le=LARGEST)] = 25_000_000
    """Of one uploaded file."""
    max_frame_pixels: Annotated[int, Field(gt=0, le=LARGEST)] = 50_000_000
    """Of one frame: width times height."""
    max_total_pixels: Annotated[int, Field(gt=0, le=LARGEST)] = 200_000_000
    """Over all frames of an animation."""
    parts_over_bytes: Annotated[int, Field(gt=0, le=LARGEST)] = 100_000_000
    """Larger files are uploaded in parts; none are while `max_file_bytes` is not larger."""
    part_bytes: Annotated[int, Field(ge=5 * 2**20, le=5 * 2**30)] = 16 * 2**20
    """Size of such a part; S3 takes none below 5 MiB or above 5 GiB."""
    allowed_types: Annotated[tuple[str, ...], NoDecode] = DEFAULT_TYPES
    """Comma-separated content types that may be uploaded."""
    inspection_timeout_seconds: Seconds = 30
    """After which a decoder is killed, and its image refused."""
    processes: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that decode and process images."""
    processor: str = "earmark.uploads.processing:make_thumbnail"
    """What processing does: `module:callable`."""
    image_resources: Annotated[Mapping[str, Annotated[int, Field(gt=0, le=LARGEST)]], NoDecode] = Field(
        default_factory=dict
    )
    """What is held for each image besides itself and its bytes, for processing to use: `credits:5,seconds:30`."""

    processing: Literal["worker", "webhook", "external"] = "worker"
    """Who processes: our worker; the service, when QStash calls; or a processor outside, which is sent signed jobs."""
    qstash_url: str = "https://qstash.upstash.io"
    """With `webhook`: where QStash is."""
    qstash_token: SecretStr | None = None
    """With `webhook`: publishes the jobs."""
    qstash_current_signing_key: SecretStr | None = None
    """Signs QStash's calls."""
    qstash_next_signing_key: SecretStr | None = None
    """Signs them from the next rotation of the keys on; until then both are good."""
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Standard Webhooks secrets (`whsec_…`), comma-separated: each signs, all are good. Needed with `external`; with
    `webhook`, whoever has one may call, too."""
    processor_url: str | None = None
    """With `external`: where jobs are posted."""
    external_ttl_seconds: Seconds = 3600
    """With `external`: from a job that was taken until its result must be there."""

    @field_validator("allowed_types", "jwt_algorithms", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (
                parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin!r} is no origin: write https://app.example, without a path, or *")
        return value

    @field_validator("jwt_algorithms")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - set(ISSUER_ALGORITHMS))
        if unknown or not value:
            raise ValueError(f"{', '.join(unknown) or 'nothing'}: name some of {', '.join(ISSUER_ALGORITHMS)}")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            conninfo_to_dict(value.get_secret_value() if value else "")
        except psycopg.Error:  # its words quote the address, and with it the password
            raise ValueError("that is no address of a PostgreSQL: write postgresql://USER@HOST:PORT/DATABASE") from None
        return value

    @field_validator("public_url", "qstash_url", "processor_url")
    @classmethod
    def _can_be_called(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://x")
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return value
        raise ValueError("an address is needed, such as https://images.example.com")

    @field_validator("jwks_url")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://x")
        if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
            return value
        raise ValueError("an https address is needed: whoever answers in its place could sign in as anybody")

    @field_validator("image_resources", mode="before")
    @classmethod
    def _amounts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.partition(":") for part in value.split(",") if part.strip()]
        return {name.strip(): amount.strip() for name, _, amount in parts}

    @field_validator("webhook_secrets", mode="before")
    @classmethod
    def _secrets(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("*", mode="before")
    @classmethod
    def _is_not_empty(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and not value.strip() and info.field_name not in MAY_BE_EMPTY:
            raise ValueError("it is empty: give it a value, or leave it out")
        return value

    @model_validator(mode="after")
    def _has_what_processing_needs(self) -> Self:
        needed = {
            "worker": (),
            "webhook": ("public_url", "qstash_token", "qstash_current_signing_key"),
            "external": ("public_url", "processor_url", "webhook_secrets"),
        }[self.processing]
        missing = [f"EARMARK_{name.upper()}" for name in needed if not getattr(self, name)]
        if missing:
            raise ValueError(f"EARMARK_PROCESSING={self.processing} needs {', '.join(missing)}")
        return self

    @property
    def upload_hold_seconds(self) -> float:
        """How long a reservation of images lasts, where nothing is uploaded."""
        return self.upload_ttl_seconds + self.upload_grace_seconds + self.evidence_ttl_seconds

    @property
    def is_local(self) -> bool:
        """Whether the embedded server is used."""
        return self.database_url is None

    @property
    def plan_of_newcomers(self) -> str | None:
        """Plan of a subject seen for the first time, or None where such a subject is refused."""
        return self.default_plan or ("pro" if self.is_local else None)


def check_spelling(variables: Iterable[str]) -> None:
    """Finds settings that were misspelt, and would otherwise be passed over in silence.

    Raises:
        InvalidRequest: One of these environment variables is no setting, but almost one.
    """
    for variable in sorted(variables):
        name = variable.upper().removeprefix(PREFIX).lower()
        if not variable.upper().startswith(PREFIX) or name in Settings.model_fields:
            continue
        for meant in get_close_matches(name, Settings.model_fields, 1, 0.7):
            raise InvalidRequest(f"{variable} is no setting; did you mean {PREFIX}{meant.upper()}?")
