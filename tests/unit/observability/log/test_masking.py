"""Secrets in a text are masked by their form, and code stays readable."""

import pytest

from app.observability.log.masking import MASK, masked

FAKE = "abcdefghij0123456789"


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + "Q" * 16,
        f"ghp_{FAKE}{FAKE[:16]}",
        f"github_pat_{FAKE}_{FAKE}",
        f"glpat-{FAKE}",
        f"xoxb-12345-{FAKE}",
        f"sk-proj-{FAKE}",
        f"sk-ant-api03-{FAKE}",
        f"sk_live_{FAKE}",
        f"AIza{FAKE}{FAKE[:15]}",
        f"hf_{FAKE}{FAKE}",
        f"npm_{FAKE}{FAKE}",
        f"pypi-{FAKE}{FAKE}",
        f"eyJ{FAKE}.eyJ{FAKE}.{FAKE}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{FAKE}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{FAKE}\n{FAKE}",
        f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n{FAKE}\n-----END PGP PRIVATE KEY BLOCK-----",
        f"hooks.slack.com/services/T0001/B0001/{FAKE}",
        f"ya29.{FAKE}",
        f"SG.{FAKE}.{FAKE}{FAKE}",
        f"gsk_{FAKE}{FAKE}",
        f"xai-{FAKE}{FAKE}",
    ],
)
def test_a_secret_of_a_known_form_goes_wherever_it_stands(secret: str) -> None:
    assert masked(f"my key is {secret}") == f"my key is {MASK}"
    assert FAKE not in masked(f'client = Client("{secret}")')


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Authorization: Bearer {FAKE}", f"Authorization: Bearer {MASK}"),
        ("postgres://anna:hunter2@db:5432/shop", f"postgres://anna:{MASK}@db:5432/shop"),
        ('password = "hunter2"', f'password = "{MASK}"'),
        ("{'api_key': 'hunter2'}", f"{{'api_key': '{MASK}'}}"),
        ("export DB_PASSWORD=hunter2\nPORT=80", f"export DB_PASSWORD={MASK}\nPORT=80"),
        ("SECRET_KEY_BASE=hunter2", f"SECRET_KEY_BASE={MASK}"),
        ("postgres://anna:hunter@2@db:5432/shop", f"postgres://anna:{MASK}@db:5432/shop"),
        ("aws_secret_access_key = hunter+two/three", f"aws_secret_access_key = {MASK}"),
        ("  password: hunter", f"  password: {MASK}"),
        ("password = hunter", f"password = {MASK}"),
        ("curl -H 'X-Api-Key: hunter2'", f"curl -H 'X-Api-Key: {MASK}'"),
        ("https://a.example/x?access_token=hunter2&n=1", f"https://a.example/x?access_token={MASK}&n=1"),
        ("docker run -e DB_PASSWORD=hunter2 image", f"docker run -e DB_PASSWORD={MASK} image"),
        ("AccountName=a;AccountKey=hunter2==;Suffix=b", f"AccountName=a;AccountKey={MASK};Suffix=b"),
    ],
)
def test_of_what_names_a_secret_the_value_goes(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "def token(self) -> str:\n    return self._token",
        "for token in tokens: count(token)",
        "token = next(tokens)",
        "def encode(self, token: str, password: bytes) -> int:",
        "The secret of a good function is its name.",
        "task-force and risk-assessment-of-everything",
        "https://example.org:8080/path?token",
        "basic usage",
    ],
)
def test_code_and_prose_about_secrets_stay(text: str) -> None:
    assert masked(text) == text


def test_a_long_text_of_beginnings_takes_linear_work() -> None:
    """Each of these begins a pattern at every place; quadratic work would outlast the test's limit."""
    for piece in ("-----BEGIN PRIVATE KEY-----", "eyJ", "password=", "a://b:", "sk-", "bearer "):
        masked(piece * 40_000)
    assert masked("x" * 1_000_000) == "x" * 1_000_000
