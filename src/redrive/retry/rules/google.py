"""Google: signing in (google-auth), and the reasons that its older HTTP APIs give."""

from __future__ import annotations

import re

from redrive.retry.kinds import Kind
from redrive.retry.rules.http import kind_of_status
from redrive.retry.rules.rule_verdict import RuleVerdict, class_names, look, short_name, text_of

__all__ = ["CLASSES", "ERRORS", "OAUTH", "REASONS", "read_google"]

CLASSES: dict[str, Kind] = {
    "google.auth.ClientCertError": Kind.PERMANENT,
    "google.auth.DefaultCredentialsError": Kind.PERMANENT,
    "google.auth.MutualTLSChannelError": Kind.PERMANENT,
    "google.auth.ReauthFailError": Kind.PERMANENT,
    "google.auth.TimeoutError": Kind.TIMEOUT,
    "google.auth.UserAccessTokenError": Kind.PERMANENT,
}

# RFC 6749, section 5.2, and what Google's token endpoint adds.
OAUTH: dict[str, Kind] = {
    **dict.fromkeys(
        ("internal_failure", "server_error", "temporarily_unavailable"), Kind.TRANSIENT
    ),
    **dict.fromkeys(
        (
            "access_denied",
            "account_not_found",
            "admin_policy_enforced",
            "invalid_client",
            "invalid_grant",
            "invalid_request",
            "invalid_scope",
            "invalid_target",
            "unauthorized_client",
            "unsupported_grant_type",
        ),
        Kind.PERMANENT,
    ),
}

# https://cloud.google.com/storage/docs/json_api/v1/status-codes and BigQuery's error table:
# limits come as 403 as well.
REASONS: dict[str, Kind] = {
    **dict.fromkeys(
        ("jobRateLimitExceeded", "rateLimitExceeded", "userRateLimitExceeded"), Kind.RATE_LIMITED
    ),
    **dict.fromkeys(("backendError", "internalError", "jobBackendError"), Kind.TRANSIENT),
    **dict.fromkeys(("dailyLimitExceeded", "quotaExceeded"), Kind.PERMANENT),
}

_SIGN_IN = "google.auth.GoogleAuthError"
ERRORS = frozenset(
    {
        *(_SIGN_IN, "google.api_core.GoogleAPICallError", "googleapiclient.HttpError"),
        "grpc.RpcError",
    }
)
_NETWORK = frozenset({"google.auth.TransportError", "google.auth.ResponseError"})
_STATUS = re.compile(
    r"(?:\b(?:status|error|code)\b[\"']?\s{0,4}[:=]?\s{0,4}|<(?:h1|title)>\s*)([345]\d\d)\b",
    re.IGNORECASE,
)
_OAUTH_CODE = re.compile(r"\b(" + "|".join(OAUTH) + r")\b")
_PLUGIN = "Getting metadata from plugin failed"


def read_google(exc: BaseException) -> RuleVerdict | None:
    """Judge by google-auth's word and OAuth's code, or by a reason of an HTTP API."""
    names = class_names(exc)
    if _SIGN_IN in names:
        return _read_auth(exc, names)
    return _read_reason(exc) or _read_plugin(exc)


def _read_auth(exc: BaseException, names: tuple[str, ...]) -> RuleVerdict | None:
    name = short_name(exc)
    if look(exc, "retryable") is True:
        return RuleVerdict(Kind.TRANSIENT, "attribute:retryable", f"{name} says retryable=True")
    text = text_of(exc)
    found = _STATUS.search(text)
    kind = kind_of_status(int(found.group(1))) if found else None
    if found is not None and kind is not None:
        status = found.group(1)
        return RuleVerdict(kind, f"status:{status}", f"{name} with HTTP status {status}")
    if not _NETWORK.isdisjoint(names):
        # What stands behind it knows better, a refused certificate for one.
        return RuleVerdict(Kind.TRANSIENT, f"class:{name}", f"{name} is transient", weak=True)
    return _read_oauth(name, text)


def _read_oauth(name: str, text: str) -> RuleVerdict | None:
    found = _OAUTH_CODE.search(text)
    if found is None:
        return None
    kind = OAUTH[found.group(1)]
    return RuleVerdict(kind, f"oauth:{found.group(1)}", f"{name} with {found.group(1)}")


def _read_plugin(exc: BaseException) -> RuleVerdict | None:
    # gRPC says UNAVAILABLE to a sign-in that failed, whatever the token endpoint said.
    text = text_of(exc)
    verdict = _read_oauth(short_name(exc), text) if _PLUGIN in text else None
    return verdict if verdict is not None and verdict.kind is Kind.PERMANENT else None


def _read_reason(exc: BaseException) -> RuleVerdict | None:
    errors = look(exc, "errors") or look(exc, "error_details")
    for error in errors if isinstance(errors, list | tuple) else ():
        reason = error.get("reason") if isinstance(error, dict) else None
        if isinstance(reason, str) and reason in REASONS:
            kind = REASONS[reason]
            return RuleVerdict(kind, f"google:{reason}", f"{short_name(exc)} with reason {reason}")
    return None
