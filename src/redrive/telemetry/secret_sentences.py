"""Secrets that people and tools say: in a sentence, at a prompt, in a command.

Prose has the same forms, so what stands there is looked at too: whether somebody made it up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redrive.telemetry.secret_forms import (
    ANY_VALUE,
    HINTS_OF_WORDS,
    NAME,
    QUOTED,
    WORD_GIVEN,
    Form,
    by_name,
    if_given,
    if_random,
    value_in,
)
from redrive.telemetry.secret_keys import Span
from redrive.telemetry.secret_looks import PROSE, looks_given, looks_random
from redrive.telemetry.secret_names import Says, said_by

__all__ = ["SENTENCES", "SENTENCE_PATTERNS"]


def _in_words(text: str, form: Form) -> Iterator[Span]:
    """Mask what stands behind a secret's name in a sentence, a prompt or a table."""
    for noun in form.pattern.finditer(text):
        begins, at = noun.span()
        before = _BEFORE_NOUN.search(text[max(begins - _MOST_NAME_CHARS, 0) : begins])
        name = f"{before[0] if before else ''}{noun[0]}"
        said = said_by(name)
        if said is None or said.says in {Says.MAYBE, Says.LIKELY}:
            continue
        is_password = said.what == "password"
        behind = _BEHIND_NOUN.match(text, at)
        if behind is not None:
            word = behind["value"].rstrip(".!?")
            in_columns = "|" in behind[0] or "\t" in behind[0]
            if looks_given(word, password=is_password and not in_columns):
                yield behind.start("value"), behind.start("value") + len(word), said.what
        elif is_password and (asked := _PROMPT.match(text, at)) is not None:
            value, whose = asked[asked.lastgroup or ""], (asked["whose"] or "").lower()
            told = value.lower().rstrip(".,") not in PROSE if whose else looks_given(value)
            if told and whose not in _OWNERS:
                yield *asked.span(asked.lastgroup or ""), form.what
        elif is_password and (plain := _PLAIN.match(text, at)) is not None:
            first = name.lower().split(" ")[0]
            given = name.lower() in _SETTINGS or (plain["then"] is not None and first in _GIVING)
            word = plain["value"].lower().rstrip(".,")
            if given and word not in PROSE and word not in _OF_A_PASSWORD:
                yield *plain.span("value"), form.what


_MOST_NAME_CHARS = 40

# Behind these stands the value, whatever it looks like.
_SETTINGS = frozenset({"requirepass", "masterauth", "-storepass", "-keypass"})

_GIVING = frozenset(
    {"using", "with", "used", "tried", "entered", "sent", "wrong", "incorrect", "bad"}
)

_PLAIN = re.compile(
    r"[ \t]{1,4}(?P<value>[^\s\"'`<>\[(-][^\s\"'`]{0,128})"
    r"(?P<then> (?:for|to|on|at)(?!\w)|[ \t]{0,4}(?:\n|$))?"
)

_OF_A_PASSWORD = frozenset(
    {
        *("protection", "hash", "hashing", "policy", "reset", "change", "file", "files", "prompt"),
        *("field", "fields", "manager", "grant", "flow", "encryption", "login", "based", "store"),
        *("callback", "only", "auth", "mode", "provided", "given", "supplied", "used", "list"),
        *("database", "entry", "entered", "input", "string", "value", "length", "strength"),
        *("rules", "security", "access", "sent", "tried", "stored", "set", "configured"),
    }
)


def _sent(text: str, form: Form) -> Iterator[Span]:
    """Mask what a command sends: quoted whatever it is, else what looks like a password."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        word = found[group]
        known = word.lower().rstrip(".,") in PROSE or (word.isupper() and word.isalpha())
        if not known and (group != "value" or looks_given(word.rstrip("=")) or looks_random(word)):
            yield *found.span(group), form.what
        elif known and looks_given(found.groupdict().get("user") or ""):
            yield *found.span("user"), form.what


_OWNERS = frozenset(
    {"user", "username", "account", "login", "role", "host", "database", "principal"}
)


_SAYS_ONE = r"pass(?:word|wd|phrase|code)|pwd"

_SAYS_A_KEY = (
    r"(?:api|access|secret|private|subscription|license|service|auth)[ _-]?(?:keys?|tokens?)"
    r"|(?:bearer|refresh|session|security|bot) ?tokens?|tokens?|credentials?|client secret"
)

_FILLER = (
    r"(?:\s(?:provided|given|supplied|used|is|was|not|valid|invalid|value|incorrect|wrong|expired"
    r"|of|with|for|and)){0,3}"
)

# Sought by few characters, as most words of a text are none: what stands before it is its name.
_NOUN = re.compile(
    r"(?:[Pp]ass(?:word|wd| ?phrase|code)?|PASS(?:WORD|WD|PHRASE|CODE)?|[Pp]wd|PWD"
    r"|secret|Secret|SECRET|[Tt]oken|TOKEN|[Kk]ey(?:[Pp]ass)?|KEY"
    r"|(?<=snmp[ _-])community|(?<=master)auth)(?!\w)"
)

_BEFORE_NOUN = re.compile(r"(?:\b[A-Za-z]{2,20} )?(?<![\w.-])[\w.-]{0,40}\Z")

_BEHIND_NOUN = re.compile(
    r"(?:\s(?:is|was|value|provided|given|supplied|used|entered|invalid|wrong|changed|from|to|tried)){0,3}"
    r"(?::?[ \t]{1,40}|\s?\|\s?|\s?\.{3,40}\s?)[\"'`]?(?P<value>" + WORD_GIVEN + ")"
    r"(?!\s(?:not found|does not exist|in namespace))"
)

# `Enter password for bob: …`, not `wrong password for user: bob`; `passphrase for key is …`.
_PROMPT = re.compile(
    r" (?:for|of|to) [^\n:]{0,64}?"
    r"(?:(?P<whose>[^\s:\"']{1,64})[\"']?:[ \t]{1,4}(?P<value>[^\s\"'`\[<][^\s]{0,128})"
    rf"|(?<=\s)(?:is|was)[ \t](?P<value_2>{WORD_GIVEN}))"
)

SENTENCES = (
    # What it says in words, in a table, or in a file that parts names from values by blanks.
    Form("password", HINTS_OF_WORDS, _NOUN, _in_words),
    # A user and the password of it.
    Form(
        "password",
        ("creds", "credential", "login", "basic auth", "/pass", "user_info", "user.info"),
        re.compile(
            r"(?:\b(?:creds|credentials?|login(?: with| as)?|basic auth"
            r"|user(?:name)?/pass(?:word|wd)?)|user[._]info)(?:\s?[:=]\s?|\s)\(?"
            rf"[\"']?[\w.@-]{{1,64}}\s?[:/,]\s?(?P<value>{WORD_GIVEN})",
            re.IGNORECASE,
        ),
        if_given,
    ),
    # Commands of protocols.
    Form(
        "password",
        ("auth",),
        re.compile(
            r"AUTH(?<![\w-]AUTH)[\"']?\s{1,2}(?:[\"']?(?P<user>[A-Za-z][\w.-]{0,40})[\"']?\s{1,2})?"
            r"(?:[\"']?(?P<value_1>[^\s\"'\[<]{1,256}+)(?=[\"']|\n|$)"
            rf"|(?P<value>{WORD_GIVEN}={{0,2}}))"
        ),
        _sent,
    ),
    Form(
        "password",
        ("pass ", "login "),
        re.compile(rf"\b(?:PASS|LOGIN [\w.@\"-]{{1,64}}) (?P<value>{WORD_GIVEN})"),
        if_given,
    ),
    Form(
        "password",
        ("password(", "passwd("),
        re.compile(r"\bpass(?:word|wd)\(\s?(?=[bru]?[\"'])" + QUOTED, re.IGNORECASE),
        value_in,
    ),
    Form(
        "one-time-code",
        (
            *("one-time", "one time", "verification ", "security code", "unlock", "login code"),
            *("2fa ", "mfa ", "otp ", "otp:", "pin ", "pin:"),
        ),
        re.compile(
            r"(?:\b(?:one[ -]time|verification|security|unlock|login|2fa|mfa) (?:code|pin)|\bOTP"
            r"|\bPIN)"
            r"(?:\sis|\swas)?:?\s(?P<value>(?=[A-Za-z-]{0,12}\d)[A-Za-z0-9-]{4,16})\b"
        ),
        value_in,
    ),
    Form(
        "password",
        ("pass", "pwd"),
        re.compile(
            rf"\b(?:{_SAYS_ONE})(?: is| was| of| for| with)?(?::| [\w@.-]{{1,64}}:)?"
            r" {1,2}(?=[bru]{0,2}\\{0,4}[\"'`])" + QUOTED,
            re.IGNORECASE,
        ),
        value_in,
    ),
    Form(
        "api-key",
        ("key", "token", "credential", "secret"),
        re.compile(
            rf"\b(?:{_SAYS_A_KEY}){_FILLER}:?\s{{0,2}}"
            r"(?:[\"'`(<](?P<value>[^\s\"'`()<>]{6,512})|(?<=\s)(?P<value_2>[^\s\"',;()<>]{8,512}))",
            re.IGNORECASE,
        ),
        if_random,
    ),
    Form(
        "api-key",
        ("api key", "apikey", "api-key", "api_key", "key provided"),
        re.compile(
            rf"\b(?:(?:api[ _-]?|access |secret )key(?!\w){_FILLER}:?\s{{0,2}}"
            r"[\"'`](?P<value>[^\s\"'`\[]{3,512})"
            r"|key provided(?: is)?:?\s{1,2}(?!\[redacted:)(?P<value_2>[^\s\"',;]{4,512}))",
            re.IGNORECASE,
        ),
        value_in,
    ),
    Form(
        "password",
        ("identified by",),
        re.compile(r"\bidentified by (?:password )?" + ANY_VALUE, re.IGNORECASE),
        value_in,
    ),
    # Command lines.
    Form(
        "",
        ("--",),
        re.compile(
            r"(?<![\w-])--" + NAME + r"(?:[\"'],\s{0,2}(?=[\"'])|\s{1,2}(?!-))" + ANY_VALUE,
            re.IGNORECASE,
        ),
        by_name,
    ),
    Form(
        "password",
        (" -u", "'-u", '"-u', "--user", "--proxy-user"),
        re.compile(
            r"(?<![\w-])(?:-u|--(?:proxy-)?user)(?:[\"'],\s{0,2}|[\s=]{0,2})[\"']?"
            r"[^\s:\"'/,]{1,64}:(?!\[redacted:)(?P<value>[^\s\"']{1,256})"
        ),
        value_in,
    ),
    Form(
        "password",
        ("mysql", "mariadb", "sshpass", "mongo", "docker", "podman", "registry", "redis-cli", "7z",
         "ldap", "cqlsh", "az ", "beeline"),
        re.compile(
            r"\b(?:mysql(?:dump|admin|import)?|mariadb(?:-dump)?|sshpass|mongo(?:sh|dump|restore)?"
            r"|(?:docker|podman|registry)[\s\"',]{1,4}login|redis-cli|7z[az]?|ldap(?:search|modify)|cqlsh|beeline|az[\s\"',]{1,4}login"
            r")(?![\w./-])[^\n;|&]{0,200}?[\s\"']"
            r"(?:-(?:-pass|[paw])(?:[\"'],\s{0,2}|[\s=]{1,2})[\"']?(?P<value>[^\s\"'-][^\s\"']{0,256})"
            r"|(?<=[\s\"'])-p[\"']?(?P<value_2>[^\s\"'=][^\s\"']{2,256}))"
        ),
        value_in,
    ),
    *(
        Form("password", hints, re.compile(pattern), _sent)
        for hints, pattern in (
            (
                ("rabbitmqctl",),
                (r"rabbitmqctl\s[^\n;|&]{0,80}?(?:add_user|change_password|authenticate_user)\s{1,4}"
                r"[^\s]{1,64}\s{1,4}(?P<value_1>[^\s\"'<\[]{1,256})"),
            ),
            (
                ("htpasswd",),
                (r"htpasswd\s[^\n;|&]{0,40}?-[a-zA-Z]{0,6}b[a-zA-Z]{0,6}\s{1,4}[^\s]{1,128}\s{1,4}"
                r"[^\s]{1,64}\s{1,4}(?P<value_1>[^\s\"'<\[]{1,256})"),
            ),
            (
                ("vault login",),
                (r"vault login\s{1,4}(?:-[\w=-]{1,40}\s{1,4}){0,4}"
                r"(?P<value_1>[^\s\"'<=\[-][^\s=]{3,256})(?=\s|$)"),
            ),
            (
                ("net use",),
                (r"net use\s{1,4}[^\s]{1,64}\s{1,4}\\{2,4}[^\s]{1,128}\s{1,4}"
                r"(?P<value_1>[^\s/*\"'<\[][^\s]{1,128})"),
            ),
            (
                ("lftp",),
                r"lftp\s[^\n;|&]{0,80}?-u\s?[^\s,]{1,64},(?P<value_1>[^\s\"'<\[]{1,256})",
            ),
            (
                ("sqlplus", "sqlldr", "exp ", "imp ", "expdp", "impdp"),
                (r"(?:sqlplus|sqlldr|exp(?:dp)?|imp(?:dp)?)\s(?:-\w{1,4}\s)?[\w$#]{1,30}/"
                r"(?P<value_1>[^\s/@\"'<\[]{1,128})(?=[@\s]|$)"),
            ),
            (
                ("-stdin",),
                r"echo\s(?:-n\s)?[\"']?(?P<value_1>[^\s\"'<$|\[]{1,256})[\"']?\s?\|[^\n]{1,160}?-stdin\b",
            ),
            ((" -u",), r" -U\s?[^\s%]{1,64}%(?P<value_1>[^\s\"'<%\[]{1,256})"),
            (("<<<",), r"<<<\s?[\"']?(?P<value_1>[^\s\"'<$\[]{4,256})"),
        )
    ),
    Form(
        "password",
        ("login",),
        re.compile(r"\blogin\s{1,4}[^\s]{1,128}\s{1,4}password\s{1,4}(?P<value>[^\s\"']{1,256})"),
        value_in,
    ),
    Form(
        "password",
        ("pass:",),
        re.compile(r"(?<![\w.])pass:(?P<value>[^\s\"':,;]{4,256})(?=[\s\"']|$)"),
        value_in,
    ),
)  # fmt: skip

SENTENCE_PATTERNS = (
    *(form.pattern for form in SENTENCES),
    _BEFORE_NOUN,
    _BEHIND_NOUN,
    _PROMPT,
    _PLAIN,
)
