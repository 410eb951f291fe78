"""How secrets look: each form by a pattern, and by a text without which it cannot be there.

Every pattern takes linear time: a repetition has a limit, or begins only where no other can.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FORMS", "Form", "mark"]

# Below: no key is shorter, and words of a text are seldom so mixed.
_LEAST_CHARS, _LEAST_BITS = 16, 3.0
_NAME_CHARS = 60
_OPENS_PAIR = re.compile(r"(?:\(\s?b?|--)[\"']?(?:--)?[\w.-]*\Z")
_IS_MARK = re.compile(r"\[redacted:[\w-]+\]")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ONE_WORD = re.compile(r"[\w.~+/=%-]+")
_NO_SECRETS = frozenset({"none", "null", "nil", "true", "false", "undefined", ""})

Replace = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class Form:
    """One form of secrets.

    Args:
        hints: Lower-case texts; a text without any of them, in lower case, has no such secret.
        pattern: Where the secret is, and what must stay around it.
        replace: What is written instead, as `re.sub` takes it.
        begins: Whether each match begins with a hint; then it is looked for there only.
    """

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replace: Replace
    begins: bool = True


def mark(what: str) -> str:
    """Return what stands for a secret that is masked."""
    return f"[redacted:{what}]"


# A key stands alone: not inside a word, but right behind an escape (`\n`, `%3D`).
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"


def _key(what: str, pattern: str, *hints: str) -> Form:
    return Form(hints, re.compile(_START + pattern), mark(what))


_PROVIDERS = (
    _key("anthropic-key", r"sk-ant-[\w*-]{8,}", "sk-ant-"),
    _key("openrouter-key", r"sk-or-[\w*-]{8,}", "sk-or-"),
    # `*`: the message of a refused key shows a part of it.
    _key("openai-key", r"(?:sk|sess)-[\w*-]{16,}", "sk-", "sess-"),
    _key("google-key", r"AIza[\w-]{30,}", "aiza"),
    _key("google-token", r"(?:ya29\.[\w.-]{16,}|GOCSPX-[\w-]{16,})", "ya29.", "gocspx-"),
    _key("aws-key-id", r"A(?:KI|SI|BI|CC)A[A-Z0-9]{12,}", "akia", "asia", "abia", "acca"),
    _key("github-token", r"(?:gh[oprsu]_|github_pat_)\w{16,}", "gho_", "ghp_", "ghr_", "ghs_",
         "ghu_", "github_pat_"),
    _key("gitlab-token", r"gl(?:pat|dt|rt|cbt|ptt|soat)-[\w-]{16,}", "glpat-", "gldt-", "glrt-",
         "glcbt-", "glptt-", "glsoat-"),
    _key("slack-token", r"(?:xox[a-z](?:\.xox[a-z])?|xapp|xwfp)-[\w-]{8,}", "xox", "xapp-",
         "xwfp-"),
    _key("stripe-key", r"(?:[rsp]k_(?:live|test|org)_|whsec_)\w{8,}", "sk_", "rk_", "pk_",
         "whsec_"),
    _key("huggingface-token", r"(?:hf|api_org)_[A-Za-z0-9]{16,}", "hf_", "api_org_"),
    _key("model-provider-key", r"(?:gsk_|r8_|xai-|pplx-|tvly-|nvapi-|fw_|lsv2_[a-z]{2}_|csk-)"
         r"[\w-]{16,}", "gsk_", "r8_", "xai-", "pplx-", "tvly-", "nvapi-", "fw_", "lsv2_", "csk-"),
    _key("sendgrid-key", r"SG\.[\w-]{16,}\.[\w-]{16,}", "sg."),
    _key("twilio-key", r"(?:SK|AC)[0-9a-f]{32}(?![0-9a-f])", "sk", "ac"),
    _key("package-token", r"(?:npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|dckr_pat_[\w-]{16,})",
         "npm_", "pypi-", "dckr_pat_"),
    _key("cloud-token", r"(?:do[opr]_v1_|dapi|hv[bs]\.|shp(?:at|ca|pa|ss)_|NRAK-|AGE-SECRET-KEY-"
         r"|ntn_|lin_api_|figd_|PMAK-)[\w-]{16,}", "doo_v1_", "dop_v1_", "dor_v1_", "dapi", "hvb.",
         "hvs.", "shpat_", "shpca_", "shppa_", "shpss_", "nrak-", "age-secret-key-", "ntn_",
         "lin_api_", "figd_", "pmak-"),
    _key("jwt", r"eyJ[\w-]{6,}\.[\w-]{2,}(?:\.[\w-]*){0,3}", "eyj"),
    Form((":aa",), re.compile(_START + r"\d{8,10}:[\w-]{35}(?![\w-])"), mark("telegram-token"),
         begins=False),
)  # fmt: skip

# `|`: a traceback draws a line beside the members of a group.
_PEM_BODY = r"(?:[A-Za-z0-9+/=\\,:.|\s]|-(?!----))*"
_BLOCKS = (
    Form(
        ("-----begin ",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            + _PEM_BODY
            + r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
        ),
        mark("private-key"),
    ),
    # The second half of one, where a text was cut.
    Form(
        ("private key",),
        re.compile(
            r"(?<![A-Za-z0-9+/=\\|\s])[A-Za-z0-9+/=\\|\s]{16,}"
            r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        ),
        mark("private-key"),
        begins=False,
    ),
)

_ADDRESSES = (
    # A port and a path are no password.
    Form(
        ("://",),
        re.compile(r"(://[^\s:@/\"'<>\[]{0,256}:)(?!\d{1,5}/)([^\s\"'<>]{1,256})@"),
        lambda found: _kept(found[2], f"{found[1]}{mark('password')}@", whole=found[0]),
    ),
    Form(
        ("://",),
        re.compile(r"://[A-Za-z0-9_.~%-]{16,256}@"),
        f"://{mark('credentials')}@",
    ),
    Form(
        ("jdbc:oracle",),
        re.compile(
            r"(jdbc:oracle:\w{1,20}:[^/\s]{1,64}/)(?!\[redacted:)[^@\s]{1,256}@", re.IGNORECASE
        ),
        rf"\1{mark('password')}@",
    ),
    Form(
        ("hooks.slack.com",),
        re.compile(r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/-]{8,}"),
        rf"\1{mark('webhook')}",
    ),
)


def _kept(value: str, masked: str, *, whole: str) -> str:
    return whole if _IS_MARK.fullmatch(value) else masked


_HEADERS = (
    # To the end of the line or of the quotes: schemes, cookies and signatures hold blanks.
    Form(
        ("authorization", "cookie"),
        re.compile(
            r"((authorization|cookie)\d?"
            r"(?>(?:\\{0,4}[\"'])?\s{0,4}(?:=>|[:=]|(?P<comma>,))\s{0,4}(?:b?\\{0,4}[\"'])?))"
            r"(?!\[redacted:[\w-]+\](?:[\s\"',)}\\\]]|$))([^\s\"'\\][^\n\r\"'\\]{0,8192})",
            re.IGNORECASE,
        ),
        lambda found: found[1] + mark(found[2].lower()) if _is_pair(found) else found[0],
    ),
    Form(
        ("bearer",),
        re.compile(
            r"\b(bearer(?:\s|%20|:){1,3})(?=[A-Za-z~+/-]{0,200}[0-9._=])[\w.~+/=-]{8,}",
            re.IGNORECASE,
        ),
        rf"\1{mark('bearer')}",
    ),
    Form(
        ("basic",),
        re.compile(
            r"\b(basic\s{1,3})(?=[A-Za-z+/]{0,200}[0-9=])[A-Za-z0-9+/]{8,}={0,2}", re.IGNORECASE
        ),
        rf"\1{mark('basic')}",
    ),
)

# What follows a name: `=`, `: `, `=>`, `", "`; in JSON, in JSON within JSON, in a repr.
_EQUALS = r"(?:\\{0,4}[\"'])?\s{0,4}(?:=>|:=|={1,3}|:|(?P<comma>(?<=[\"']),))\s{0,4}"
_STOP = r"(?=[,)\]}>]{0,4}(?:[\s\"']|$)|[;&]\s?[\w.%-])"
_VALUE = (
    # Behind an escaped quote it ends at the next one.
    r"(?:[bru]{0,2}\\{1,4}\"(?P<inner_double>(?:[^\"\\\n]|\\(?!\\{0,3}\"))*)"
    r"|[bru]{0,2}\\{1,4}'(?P<inner_single>(?:[^'\\\n]|\\(?!\\{0,3}'))*)"
    r"|[bru]{0,2}\"(?P<double>(?:[^\"\\\n]|\\.)*)"
    r"|[bru]{0,2}'(?P<single>(?:[^'\\\n]|\\.)*)"
    r"|(?P<bare>(?:\[redacted:[\w-]+\]|[^\s\"';&]|[\"'](?![\s,;:)}\]]|$)|[;&](?!\s?[\w.%-]))+?"
    + _STOP
    + r"))"
)
_STRONG = (
    r"pass(?:word|wort|wd|phrase)|pwd|secret|api[ _.-]?key|apikey|private[_-]?key"
    r"|access[_-]?key|account[_-]?key|signing[_-]?key|encryption[_-]?key|master[_-]?key"
    r"|subscription[_-]?key|credentials?|x-amz-signature|sessionid|session_id"
    r"|(?:access|auth|refresh|session|security|bot|client|csrf|xsrf|(?<![a-z])(?:id|api))"
    r"[ _.-]?token"
)
_WEAK = r"token|key|auth|pass|pw|pat|code|signature|sig|sid|session|jwt|login|nonce|bearer"


def _named(found: re.Match[str]) -> str:
    """Mask what a name says is a secret; a value such as None tells more as it is."""
    group = found.lastgroup or "bare"
    value = found[group]
    if value.lower() in _NO_SECRETS or _IS_MARK.fullmatch(value) or not _is_pair(found):
        return found[0]
    return found[0][: found.start(group) - found.start()] + mark(_label(found["name"]))


def _is_pair(found: re.Match[str]) -> bool:
    """Say whether a comma parts a name from its value: ("name", "value"), "--name", "value"."""
    if not found.groupdict().get("comma"):
        return True
    before = found.string[max(found.start() - _NAME_CHARS, 0) : found.start()]
    return _OPENS_PAIR.search(before) is not None


def _guessed(found: re.Match[str]) -> str:
    """Mask it if it looks like a secret, too: a token may be a word of a language as well."""
    group = found.lastgroup or "bare"
    return _named(found) if _looks_random(found[group]) else found[0]


def _label(name: str) -> str:
    return re.sub(r"[ _.]", "-", name.lower())


def _looks_random(value: str) -> bool:
    if len(value) < _LEAST_CHARS or not _ONE_WORD.fullmatch(value) or _UUID.fullmatch(value):
        return False
    if value.isupper() and "_" in value:
        return False  # The code of an error.
    if not any(char.isdecimal() for char in value) or not any(char.isalpha() for char in value):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= _LEAST_BITS


_STRONG_BEGINS = (
    "pass", "pwd", "secret", "api", "private", "access", "account", "signing", "encryption",
    "master", "subscription", "credential", "x-amz-signature", "session", "auth", "refresh",
    "security", "bot", "client", "csrf", "xsrf", "id",
)  # fmt: skip
_NAMED = (
    Form(
        _STRONG_BEGINS,
        re.compile(rf"(?P<name>{_STRONG})[\w.-]{{0,24}}{_EQUALS}{_VALUE}", re.IGNORECASE),
        _named,
    ),
    # A token with `=` is one, unless it is a number: those are counted.
    Form(
        ("token",),
        re.compile(
            rf"(?P<name>token){_EQUALS.replace(':|', '')}(?!\d{{1,12}}\b){_VALUE}", re.IGNORECASE
        ),
        _named,
    ),
    Form(
        ("pass", "pwd"),
        re.compile(
            r"\b((?P<name>password|passwd|passphrase|pwd)(?: is| was)? {1,2})(?=[\"'])" + _VALUE,
            re.IGNORECASE,
        ),
        _named,
    ),
    # Pydantic writes the field into one line, and what it was given into the next.
    Form(
        (*_STRONG_BEGINS, "token"),
        re.compile(
            rf"(?P<name>{_STRONG}|token)[\w.-]{{0,24}}\\{{0,4}}[\nn][ |]{{2,40}}[^\n]{{1,300}}?"
            r"\binput_value=(?P<bare>[^\n]{1,300}?)(?=, input_type=)",
            re.IGNORECASE,
        ),
        _named,
    ),
    Form(
        ("identified by",),
        re.compile(r"\bidentified by (?P<name>)" + _VALUE, re.IGNORECASE),
        lambda found: _named(found).replace("[redacted:]", mark("password")),
    ),
    Form(
        ("key provided",),
        re.compile(
            r"(\bkey provided(?: is)?:?\s{1,2})(?!\[redacted:)[^\s\"',;]{4,}", re.IGNORECASE
        ),
        rf"\1{mark('api-key')}",
    ),
    Form(
        ("--",),
        re.compile(
            r"--[a-z-]{0,24}?(?P<name>password|passwd|passphrase|secret|token|api-key|access-key)"
            r"[a-z-]{0,12} (?!-)" + _VALUE,
            re.IGNORECASE,
        ),
        _named,
    ),
    Form(
        (" -u ", "--user "),
        re.compile(r"( (?:-u|--user) [^\s:\"']{1,64}:)(?!\[redacted:)[^\s\"']{1,256}"),
        rf"\1{mark('password')}",
    ),
    Form(
        tuple(_WEAK.split("|")),
        re.compile(rf"(?P<name>{_WEAK}){_EQUALS}{_VALUE}", re.IGNORECASE),
        _guessed,
    ),
    # AWS gives no name to its secret keys but in their neighbourhood.
    Form(
        ("aws", "akia", "asia"),
        re.compile(r"(?<![A-Za-z0-9/+=_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_-])"),
        lambda found: mark("aws-secret-key") if _is_mixed(found[0]) else found[0],
        begins=False,
    ),
)  # fmt: skip


def _is_mixed(value: str) -> bool:
    return (
        any(char.islower() for char in value)
        and any(char.isupper() for char in value)
        and any(char.isdecimal() for char in value)
    )


# What has a form of its own comes first: its mark says more than that of a name.
FORMS = (*_BLOCKS, *_PROVIDERS, *_ADDRESSES, *_HEADERS, *_NAMED)
"""Every form that is built in, in the order in which they are masked."""
