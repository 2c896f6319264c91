"""One API key as the keys file has it: its name, its hash, its terms, and until when it is accepted."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from app.contract.options import LogContent
from app.contract.terms import Terms


def hash_of(key: str) -> str:
    """64 hexadecimal digits of SHA-256. Why this is enough for keys: docs/decisions/0121-the-keys-file.md."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def moment(text: object) -> datetime:
    """A date (its first moment) or a time as ISO 8601 writes it, without an offset in UTC. Raises ValueError."""
    if isinstance(text, datetime):
        return text
    if not isinstance(text, str):
        raise ValueError("expected a date or a time, as in 2027-01-31 or 2027-01-31T18:00:00Z")  # noqa: TRY004  # pydantic's way
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def said(time: datetime) -> str:
    """A time for people."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


Moment = Annotated[datetime, BeforeValidator(moment)]


class KeyRecord(BaseModel):
    """The JSON object of one line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]
    requests: int | None = Field(None, ge=1)
    prompt_tokens: int | None = Field(None, ge=1)
    log_content: LogContent | None = None
    expires: Moment | None = None
    revoked: Moment | None = None

    @property
    def terms(self) -> Terms:
        return Terms(self.requests, self.prompt_tokens, self.log_content)

    def ended(self, now: datetime) -> str | None:
        """Why the key is not accepted any more, as its holder is told; None while it is."""
        if self.revoked is not None:
            return f"was revoked at {said(self.revoked)}"
        if self.expires is not None and self.expires <= now:
            return f"expired at {said(self.expires)}"
        return None
