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

_WHOLE = re.compile(
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
    r".*?(?:-----END [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{20,255}|\bgithub_pat_[A-Za-z0-9_]{20,255}|\bglpat-[A-Za-z0-9_-]{20,255}"
    r"|\bxox[a-z]-[A-Za-z0-9-]{10,255}"  # Slack
    r"|\b[prs]k[-_][A-Za-z0-9_-]{16,255}"  # OpenAI, Anthropic, Stripe and those that copied them
    r"|\bhooks\.slack\.com/services/[A-Za-z0-9/]{16,255}"
    r"|\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{16,2048}"  # Google
    r"|\bSG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}|\bgsk_[A-Za-z0-9]{20,255}|\bxai-[A-Za-z0-9]{20,255}"
    r"|\bhf_[A-Za-z0-9]{20,255}|\bnpm_[A-Za-z0-9]{20,255}|\bpypi-[A-Za-z0-9_-]{32,512}"
    r"|\beyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{4,8192}",  # a JSON web token
    re.DOTALL,
)

_VALUES = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s{1,8})(?:[A-Za-z0-9._~+/=-]{12,8192})"
    r"|(?P<address>\b[a-z][a-z0-9+.-]{0,31}://[^\s/:@]{0,255}:)(?:[^\s/]{1,255})(?=@)"
    rf"|(?P<quoted>{_NAMES}\w{{0,32}}[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"'])(?:[^\"'\n]{{4,8192}})"
    # Without quotes: one word to the end of its line, or one with a digit. Code calls things: `token = f(x)`.
    rf"|(?P<line>^[ \t]{{0,16}}(?:export[ \t]{{1,4}})?[\w-]{{0,32}}{_NAMES}[\w-]{{0,32}}[ \t]{{0,4}}[:=][ \t]{{0,4}})"
    r"(?:[^\s\"'()\[\],]{4,8192})(?=[ \t]*$)"
    rf"|(?P<word>{_NAMES}[\w-]{{0,32}}[ \t]{{0,4}}[:=][ \t]{{0,4}})"
    r"(?=[^\s\"'()\[\],;&]{0,255}\d)(?:[^\s\"'()\[\],;&]{6,8192})",
    re.IGNORECASE | re.MULTILINE,
)


def masked(text: str) -> str:
    """The text with each secret replaced; of what names one (`password = `) only the value."""
    return _VALUES.sub(lambda found: f"{found.group(found.lastgroup or 0)}{MASK}", _WHOLE.sub(MASK, text))
