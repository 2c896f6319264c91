"""Masks what looks like a secret in a text: keys, tokens and passwords that people paste with their code.

By their form, so a secret without one (a password in a sentence) stays. The forms of vendors' keys are those that the
vendors document for secret scanners.
"""

import re

MASK = "[masked]"

_NAMES = r"(?:pass(?:word|wd|phrase)|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)"

_WHOLE = re.compile(
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,32}PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{20,255}|\bgithub_pat_[A-Za-z0-9_]{20,255}|\bglpat-[A-Za-z0-9_-]{20,255}"
    r"|\bxox[a-z]-[A-Za-z0-9-]{10,255}"  # Slack
    r"|\b[prs]k[-_][A-Za-z0-9_-]{16,255}"  # OpenAI, Anthropic, Stripe and those that copied them
    r"|\bAIza[A-Za-z0-9_-]{35}"  # Google
    r"|\bhf_[A-Za-z0-9]{20,255}|\bnpm_[A-Za-z0-9]{20,255}|\bpypi-[A-Za-z0-9_-]{32,512}"
    r"|\beyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{4,8192}",  # a JSON web token
    re.DOTALL,
)

_VALUES = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s{1,8})(?:[A-Za-z0-9._~+/=-]{12,8192})"
    r"|(?P<address>\b[a-z][a-z0-9+.-]{0,31}://[^\s/:@]{0,255}:)(?:[^\s/@]{1,255})(?=@)"
    rf"|(?P<quoted>{_NAMES}\w{{0,32}}[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"'])(?:[^\"'\n]{{4,8192}})"
    rf"|(?P<variable>^[ \t]{{0,16}}(?:export[ \t]{{1,4}})?\w{{0,32}}{_NAMES}\w{{0,32}}=)(?:[^\s\"']{{4,8192}})",
    re.IGNORECASE | re.MULTILINE,
)


def masked(text: str) -> str:
    """The text with each secret replaced; of what names one (`password = `) only the value."""
    return _VALUES.sub(lambda found: f"{found.group(found.lastgroup or 0)}{MASK}", _WHOLE.sub(MASK, text))
