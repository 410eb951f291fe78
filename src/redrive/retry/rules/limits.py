"""Rate limits that waiting does not lift: a request that is too large, a quota of zero, a day's."""

from __future__ import annotations

import re

from redrive.retry.kinds import Kind
from redrive.retry.rules.rule_verdict import RuleVerdict, answer_text, short_name

__all__ = ["HOPELESS", "read_daily", "read_hopeless"]

HOPELESS: dict[str, str] = {
    "too_large": "the request is larger than the limit allows at any time",
    "zero_quota": "the quota is 0",
    "daily_quota": "the quota of a day, or of longer, is used up",
}
"""Why waiting does not help, by the name of the rule."""

_TOO_LARGE = re.compile(r"request (?:is )?too large|must be reduced in order to run", re.IGNORECASE)
# OpenAI and Groq: "Limit 30000, Requested 45000", "Limit 200, Used 200, Requested 1"
_LIMIT_AND_REQUESTED = re.compile(
    r"\blimit:? ([\d,]{1,15})\b.{0,60}?\brequested:? ([\d,]{1,15})\b", re.IGNORECASE
)
_ZERO = re.compile(
    r"\b(?<!remaining )(?:limit|quota_?value)[\\'\"]{0,4}\s{0,4}[:=]?\s{0,4}[\\'\"]{0,4}0"
    r"(?![\d.,]\d|\d|\s(?:\w+\s)?(?:remaining|left))",
    re.IGNORECASE,
)
# Google adds "retry in 39s" to a quota that is used up until midnight.
_QUOTA_OF_A_DAY = re.compile(
    r"quota_?id[\\'\"]{0,4}\s{0,4}[:=]\s{0,4}[\\'\"]{0,4}\w*PerDay", re.IGNORECASE
)
_LONG = re.compile(
    r"per[ _-]?(?:day|week|month)|/ ?(?:day|week|month)\b|\b(?:daily|weekly|monthly)\b|"
    r"\b[RT]PD\b",
    re.IGNORECASE,
)
# A message that lists its limits does not say which of them it means.
_SHORT = re.compile(
    r"per[ _-]?(?:sec|min|hour)|/ ?(?:sec|second|min|minute|hr|hour)\b|\b[RT]PM\b", re.IGNORECASE
)


def read_hopeless(exc: BaseException) -> RuleVerdict | None:
    """Judge a rate limit that the same request can never pass, whatever wait is named."""
    text = answer_text(exc)
    if _TOO_LARGE.search(text) or _asks_for_too_much(text):
        return _never(exc, "too_large")
    if _ZERO.search(text):
        return _never(exc, "zero_quota")
    if _QUOTA_OF_A_DAY.search(text):
        return _never(exc, "daily_quota")
    return None


def read_daily(exc: BaseException) -> RuleVerdict | None:
    """Judge a rate limit that names no wait: a quota of a day or longer is no matter of retries."""
    text = answer_text(exc)
    if _LONG.search(text) is None or _SHORT.search(text) is not None:
        return None
    return _never(exc, "daily_quota")


def _asks_for_too_much(text: str) -> bool:
    found = _LIMIT_AND_REQUESTED.search(text)
    if found is None:
        return False
    limit, requested = (int(number.replace(",", "") or "0") for number in found.groups())
    return requested > limit


def _never(exc: BaseException, name: str) -> RuleVerdict:
    why = f"{short_name(exc)}: {HOPELESS[name]}; waiting does not help"
    return RuleVerdict(Kind.PERMANENT, f"limit:{name}", why)
