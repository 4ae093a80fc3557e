"""What an installation may change, read from `STOREFRONT_*` variables and `.env`."""

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from annotated_types import Gt
from limits import parse
from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DEVELOPMENT_SECRET = "storefront-development-secret-known-to-everyone"  # noqa: S105 - refused outside dev
SHORTEST_SECRET = 32
"""Bytes: a key for HS256 is at least as long as its hash, RFC 7518 §3.2."""

CATALOGUE = Path(__file__).parents[1] / "data" / "diamonds.csv.gz"
SECRETS = Path("/run/secrets")
"""Where containers find files; one named like a variable, `storefront_secret`, says its value."""


Origin = Annotated[str, Field(pattern=r"^https?://[^/*]+$")]
"""Named one by one: `*` would let every page ask."""


def _readable(rate: str) -> str:
    parse(rate)
    return rate


Rate = Annotated[str, AfterValidator(_readable)]
"""As `limits` reads it: `10/minute`, `100 per hour`."""


class Settings(BaseSettings):
    """The settings of one application. Outside `dev` the secret has to be your own."""

    # The values are not shown in errors: one of them is the secret.
    model_config = SettingsConfigDict(
        env_prefix="STOREFRONT_",
        env_file=".env",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    environment: Literal["dev", "production"] = "dev"
    database_url: str = "sqlite+aiosqlite:///storefront.db"
    database_pool: Annotated[int, Gt(0)] = 8
    cache_url: str = "memory://"
    track: bool = False
    cache_memory: str = "256MB"
    cache_timeout: Annotated[float, Gt(0)] = 0.05
    cache_shadow: bool = False
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    cors_origins: tuple[Origin, ...] = ()
    body_limit: Annotated[int, Gt(0)] = 1_000_000
    uploads: Path = Path("uploads")
    upload_limit: Annotated[int, Gt(0)] = 10_000_000
    upload_time: Annotated[timedelta, Gt(timedelta())] = timedelta(minutes=5)
    rate: Rate = "1200/minute"
    rate_search: Rate = "600/minute"
    rate_login: Rate = "60/minute"
    rate_user: Rate = "120/minute"
    rate_url: str = "memory://"
    events_url: str = "memory://"
    events_attempts: Annotated[int, Gt(0)] = 10
    events_patience: Annotated[timedelta, Gt(timedelta())] = timedelta(seconds=30)
    events_sweep: Annotated[timedelta, Gt(timedelta())] = timedelta(seconds=30)
    live_per_address: Annotated[int, Gt(0)] = 20
    live_heartbeat: Annotated[timedelta, Gt(timedelta())] = timedelta(seconds=15)
    bank_url: str = "https://bank.example"
    bank_rates_lifetime: Annotated[timedelta, Gt(timedelta())] = timedelta(minutes=10)
    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    token_lifetime: Annotated[timedelta, Gt(timedelta())] = timedelta(minutes=15)
    session_lifetime: Annotated[timedelta, Gt(timedelta())] = timedelta(days=30)
    catalogue: Path = CATALOGUE
    metrics_token: Annotated[SecretStr, Field(min_length=SHORTEST_SECRET)] | None = None

    @model_validator(mode="after")
    def _has_a_secret(self) -> Self:
        secret = self.secret.get_secret_value()
        if self.environment != "dev" and secret == DEVELOPMENT_SECRET:
            problem = "is the one that everybody knows"
        elif len(secret.encode()) < SHORTEST_SECRET:
            problem = f"is shorter than {SHORTEST_SECRET} bytes"
        else:
            return self
        command = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        raise ValueError(f"STOREFRONT_SECRET {problem}: set it to what `{command}` prints")


@cache
def settings_of_the_environment() -> Settings:
    """Read the settings once; whoever asks again gets the same ones."""
    return Settings()
