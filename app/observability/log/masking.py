"""Masks what looks like a secret in a text: keys, tokens and passwords that people paste with their code.

By their form, so a secret without one (a password in a sentence) stays. The forms of vendors' keys are those that the
vendors document for secret scanners.
"""

import re

MASK = "[masked]"

_NAMES = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|(?:api|access|account|private|auth|signing|encryption)[_-]?key"
    r"|credentials?)"
)

_PEM = "PRIVATE KEY"
_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
    r".*?(?:-----END [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)

_WHOLE = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{20,255}|\bgithub_pat_[A-Za-z0-9_]{20,255}|\bglpat-[A-Za-z0-9_-]{20,255}"
    r"|\bxox[a-z]-[A-Za-z0-9-]{10,255}"  # Slack
    r"|\b[prs]k[-_][A-Za-z0-9_-]{16,255}"  # OpenAI, Anthropic, Stripe and those that copied them
    r"|\bhooks\.slack\.com/services/[A-Za-z0-9/]{16,255}"
    r"|\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{16,2048}"  # Google
    r"|\bSG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}|\bgsk_[A-Za-z0-9]{20,255}|\bxai-[A-Za-z0-9]{20,255}"
    r"|\bhf_[A-Za-z0-9]{20,255}|\bnpm_[A-Za-z0-9]{20,255}|\bpypi-[A-Za-z0-9_-]{32,512}"
    r"|\beyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{4,8192}"  # a JSON web token
)

_VALUES = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)[ \t]{1,8})(?:[A-Za-z0-9._~+/=-]{12,8192})"
    r"|(?P<address>://[^\s/:@]{0,255}:)(?:[^\s/]{1,255})(?=@)"
    rf"|(?P<quoted>{_NAMES}\w{{0,32}}[\"']?[ \t]{{0,4}}[:=][ \t]{{0,4}}[\"'])(?:[^\"']{{4,8192}})"
    # Without quotes: one word to the end of its line, or one with a digit. Code calls things: `token = f(x)`.
    rf"|(?P<line>^[ \t]{{0,16}}(?:export[ \t]{{1,4}})?[\w-]{{0,32}}{_NAMES}[\w-]{{0,32}}[ \t]{{0,4}}[:=][ \t]{{0,4}})"
    r"(?:[^\s\"'()\[\],]{4,8192})(?=[ \t\r]*$)"
    rf"|(?P<word>{_NAMES}[\w-]{{0,32}}[ \t]{{0,4}}[:=][ \t]{{0,4}})"
    r"(?=[^\s\"'()\[\],;&]{0,255}\d)(?:[^\s\"'()\[\],;&]{6,8192})",
    re.IGNORECASE,
)

_HINTS = (
    *("akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "hooks.slack"),
    *("pk-", "pk_", "rk-", "rk_", "sk-", "sk_", "aiza", "ya29.", "sg.", "xai-", "hf_", "npm_", "pypi-", "eyj"),
    *("bearer", "basic", "://", "pass", "pwd", "secret", "token", "key", "credential"),
)
"""One of these is in every line, in small letters, in which the patterns above can find something. They are slow:
10 ms for 28,000 characters, on the event loop."""


def masked(text: str) -> str:
    """The text with each secret replaced; of what names one (`password = `) only the value."""
    if _PEM in text:
        text = _BLOCK.sub(MASK, text)
    small = text.lower()
    hints = [hint for hint in _HINTS if hint in small]
    return "\n".join(_masked_line(line, hints) for line in text.split("\n")) if hints else text


def _masked_line(line: str, hints: list[str]) -> str:
    small = line.lower()
    if not any(hint in small for hint in hints):
        return line
    return _VALUES.sub(lambda found: f"{found.group(found.lastgroup or 0)}{MASK}", _WHOLE.sub(MASK, line))
