"""Where secrets are in a text: by their form, by what a name says, by what stands around them.

Each finder takes linear time, and shows why: it begins at a hint or where a run of characters
begins; a repetition has a limit, or takes a whole run and cannot fail behind it; and what was
taken for a value is not looked at again, unless it holds no further name.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redrive.telemetry.secret_keys import KEY_PATTERNS, Span, found_in, keys_in
from redrive.telemetry.secret_names import (
    NAMES_OF_NAMES,
    NAMES_OF_VALUES,
    Named,
    Says,
    said_by,
)

__all__ = ["PATTERNS", "is_told", "mark", "secret_named", "secrets_in"]

# Below: no key is shorter, and words of a text are seldom so mixed.
_LEAST_CHARS, _LEAST_BITS = 16, 2.8
_IS_MARK = re.compile(r"\[redacted:[\w-]{1,40}\]")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_HASH = re.compile(r"(?:sha\d{1,3}[-:])?[0-9a-f]{7,128}", re.IGNORECASE)
_ONE_WORD = re.compile(r"[\w.~+/=%*$!^-]+")


def mark(what: str) -> str:
    """Return what stands for a secret that is masked."""
    return f"[redacted:{what}]"


def secrets_in(text: str) -> Iterator[Span]:
    """Find every secret; spans may lie in each other."""
    lower = text.lower()
    yield from keys_in(text)
    for form in _FORMS:
        if _any_in(lower, form.needs) and _any_in(lower, form.hints):
            yield from form.find(text, form)
    yield from _named(text)


def _any_in(text: str, hints: tuple[str, ...]) -> bool:
    for hint in hints:  # noqa: SIM110 - a generator takes three times as long
        if hint in text:
            return True
    return False


def secret_named(name: str, value: str) -> str | None:
    """Return what the value of this name is, where that is a secret; else None.

    A value that stands alone is no word of a program: only a reference stays, as `env:NAME`.
    """
    said = said_by(name)
    if said is None or not value or _IS_MARK.fullmatch(value):
        return None
    if said.says is Says.SURE:
        return None if _REFERENCE.fullmatch(value) else said.what
    return said.what if is_told(said, value) else None


@dataclass(frozen=True, slots=True)
class _Form:
    """Where a secret is by what stands around it.

    Args:
        what: What it is; the name beside it says so where this is empty.
        hints: Lower-case texts; without any of them, in lower case, it is not there.
        pattern: The secret is its group `value`, or all of it.
        find: How matches become spans.
        needs: As `hints`; one of both must be there.
    """

    what: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    find: Callable[[str, _Form], Iterator[Span]]
    needs: tuple[str, ...] = ("",)


def _whole(text: str, form: _Form) -> Iterator[Span]:
    yield from found_in(text, form.pattern, form.what)


def _value(text: str, form: _Form) -> Iterator[Span]:
    """Mask the group `value`, or one that begins with it."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        if not _IS_MARK.fullmatch(found[group]):
            yield *found.span(group), form.what


def _if_random(text: str, form: _Form) -> Iterator[Span]:
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        if "*" in found[group] or looks_random(found[group], least=12):
            yield *found.span(group), form.what


def _by_name(text: str, form: _Form) -> Iterator[Span]:
    """Mask the value if the group `name` says that it is a secret."""
    for found in form.pattern.finditer(text):
        group = next(g for g, v in found.groupdict().items() if g.startswith("value") and v)
        said = said_by(found["name"])
        if said is not None and is_told(said, found[group]):
            yield *found.span(group), said.what


def _if_given(text: str, form: _Form) -> Iterator[Span]:
    """Mask the group `value` where it is no word of a sentence."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        word = found[group].rstrip(".!?")
        if looks_given(word) or (group == "value" and looks_random(word)):
            begins = found.start(group)
            yield begins, begins + len(word), form.what


def _in_words(text: str, form: _Form) -> Iterator[Span]:
    """Mask what stands behind a secret's name in a sentence, a prompt or a table."""
    for noun in form.pattern.finditer(text):
        begins, at = noun.span()
        before = _BEFORE_NOUN.search(text[max(begins - _MOST_NAME_CHARS, 0) : begins])
        name = f"{before[0] if before else ''}{noun[0]}"
        said = said_by(name)
        if said is None or said.says is Says.MAYBE:
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
            told = value.lower().rstrip(".,") not in _PROSE if whose else looks_given(value)
            if told and whose not in _OWNERS:
                yield *asked.span(asked.lastgroup or ""), form.what
        elif is_password and (plain := _PLAIN.match(text, at)) is not None:
            first = name.lower().split(" ")[0]
            given = name.lower() in _SETTINGS or (plain["then"] is not None and first in _GIVING)
            word = plain["value"].lower().rstrip(".,")
            if given and word not in _PROSE and word not in _OF_A_PASSWORD:
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


def _sent(text: str, form: _Form) -> Iterator[Span]:
    """Mask what a command sends: quoted whatever it is, else what looks like a password."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        word = found[group]
        known = word.lower().rstrip(".,") in _PROSE or (word.isupper() and word.isalpha())
        if not known and (group != "value" or looks_given(word.rstrip("=")) or looks_random(word)):
            yield *found.span(group), form.what
        elif known and looks_given(found.groupdict().get("user") or ""):
            yield *found.span("user"), form.what


def _oracle(text: str, form: _Form) -> Iterator[Span]:
    """Mask the password of `user/password@database`; `owner/package@version` has none."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        if group == "value_1" or looks_given(found[group]):
            yield *found.span(group), form.what


_OWNERS = frozenset(
    {"user", "username", "account", "login", "role", "host", "database", "principal"}
)


def _by_name_if_given(text: str, form: _Form) -> Iterator[Span]:
    return (span for span in _by_name(text, form) if looks_given(text[span[0] : span[1]]))


_OPENS_PAIR = re.compile(r"(?:\(\s?b?|--)[\"']?(?:--)?[\w.-]*\Z")
_PAIR_CHARS = 60


def _is_pair(text: str, at: int) -> bool:
    """Say whether a comma parts a name from its value: ("name", "value"), "--name", "value"."""
    return _OPENS_PAIR.search(text[max(at - _PAIR_CHARS, 0) : at]) is not None


def _headers(text: str, form: _Form) -> Iterator[Span]:
    for found in form.pattern.finditer(text):
        if found["comma"] and not _is_pair(text, found.start("name")):
            continue
        begins, ends = found.span("value")
        if found["quoting"]:
            quote = (found["quote"] or ("" if found["closes"] else found["opens"]))[-1:]
            ends = _end_of_line(text, begins, quote)
        yield begins, ends, found["name"].lower().rstrip("2")


_MOST_HEADER_CHARS = 8_192


def _end_of_line(text: str, begins: int, quote: str) -> int:
    most = min(begins + _MOST_HEADER_CHARS, len(text))
    ends = [text.find(stop, begins, most) for stop in ("\n", quote) if stop]
    return min((end for end in ends if end >= 0), default=most)


_DATA = re.compile(r"\b(?:data|stringData):[ \t]{0,4}\n")
_ENTRY = re.compile(r"[ \t]{1,20}[\w.-]{1,100}:[ \t]{0,4}(?P<value>[^\s\[][^\n]{0,8192})\n?")


def _manifest(text: str, form: _Form) -> Iterator[Span]:
    at = 0
    for found in form.pattern.finditer(text):
        begins = _DATA.search(text, max(at, found.end()))
        if begins is None:
            return
        at = begins.end()
        while (entry := _ENTRY.match(text, at)) is not None:
            yield *entry.span("value"), form.what
            at = entry.end()


def _if_mixed(text: str, form: _Form) -> Iterator[Span]:
    return (span for span in _value(text, form) if _is_mixed(text[span[0] : span[1]]))


# `|`: a traceback draws a line beside the members of a group.
_PEM_NAME = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?"
_QUOTED = (
    # Behind an escaped quote it ends at the next one; a closing quote may be cut off.
    r"(?:[bru]{0,2}\\{1,4}\"(?P<value_1>(?:[^\"\\\n]|\\(?!\\{0,3}\"))*+)"
    r"|[bru]{0,2}\\{1,4}'(?P<value_2>(?:[^'\\\n]|\\(?!\\{0,3}'))*+)"
    r"|[bru]{0,2}\"(?P<value_3>(?:[^\"\\\n]|\\.)*+)"
    r"|[bru]{0,2}'(?P<value_4>(?:[^'\\\n]|\\.)*+)"
    r"|`(?P<value_5>[^`\n]*+))"
)
_STOP = r"[,)\]}>]{0,4}(?:[\s\"'`<]|$)|[;&]\s?[\w.%-]|[;&](?:[\s\"']|$)"
# One character of a value without quotes; the value ends where a stop follows.
_PART = (
    r"(?:\[redacted:[\w-]{1,40}\]|[^\s\"'`;&<\\]|\\(?![nrt\"'])\\?.?"
    r"|[\"'](?![\s,;:)}\]\\]|$)|<(?![/\s])|[;&](?!\s?[\w.%-]|[\s\"']|$))"
)
_BARE = rf"(?P<value_6>{_PART}(?:(?!{_STOP}){_PART})*+)"
_ANY = rf"(?:{_QUOTED}|{_BARE})"
_NAME = r"(?P<name>[\w.-]{1,80})"
_SAYS_ONE = r"pass(?:word|wd|phrase|code)|pwd"
_SAYS_A_KEY = (
    r"(?:api|access|secret|private|subscription|license|service|auth)[ _-]?(?:keys?|tokens?)"
    r"|(?:bearer|refresh|session|security|bot) ?tokens?|tokens?|credentials?|client secret"
)
_KEY_BEGINS = r"(?:(?<![A-Za-z])|(?-i:(?<=[a-z])(?=[A-Z])))"
_NAME_KEYS = rf"{_KEY_BEGINS}(?:{'|'.join(NAMES_OF_NAMES)})"
_VALUE_KEYS = rf"{_KEY_BEGINS}(?:{'|'.join(NAMES_OF_VALUES)})"
# Not the word in a sentence: "Expecting value: line 1".
_VALUE_HINTS = tuple(
    hint.format(name)
    for name in NAMES_OF_VALUES
    for hint in ('{}"', "{}'", "{}\\", "{}=", "  {}:", "\t{}:")
)
_FILLER = (
    r"(?:\s(?:provided|given|supplied|used|is|was|not|valid|invalid|value|incorrect|wrong|expired"
    r"|of|with|for|and)){0,3}"
)

_HINTS_OF_NAMES = (
    *("pass", "pwd", "secret", "token", "cred", "cookie", "auth", "key'", 'key"', "_key", "-key"),
    *(".key", "apikey", "accesskey", "kennwort", "contrasena", "string"),
)
_HINTS_OF_WORDS = ("pass", "pwd", "secret", "token", "community", "masterauth", "key")
# Sought by few characters, as most words of a text are none: what stands before it is its name.
_NOUN = re.compile(
    r"(?:[Pp]ass(?:word|wd| ?phrase|code)?|PASS(?:WORD|WD|PHRASE|CODE)?|[Pp]wd|PWD"
    r"|secret|Secret|SECRET|[Tt]oken|TOKEN|[Kk]ey(?:[Pp]ass)?|KEY"
    r"|(?<=snmp[ _-])community|(?<=master)auth)(?!\w)"
)
_WORD_OF_USER = r"[^\s\"'`,;:()<>=\[\]{}|/]{4,64}"
# One word, which may be no word of a language: `looks_given` says so.
_WORD_GIVEN = (
    r"(?=[A-Za-z!#$%^&*+~?@.-]{0,64}\d|[A-Za-z0-9.-]{0,64}[!#$%^&*+~?@])"
    r"[^\s\"'`,;:()<>=\[\]{}|]{4,128}"
)

_BEFORE_NOUN = re.compile(r"(?:\b[A-Za-z]{2,20} )?(?<![\w.-])[\w.-]{0,40}\Z")
_BEHIND_NOUN = re.compile(
    r"(?:\s(?:is|was|value|provided|given|supplied|used|entered|invalid|wrong|changed|from|to|tried)){0,3}"
    r"(?::?[ \t]{1,40}|\s?\|\s?|\s?\.{3,40}\s?)[\"'`]?(?P<value>" + _WORD_GIVEN + ")"
    r"(?!\s(?:not found|does not exist|in namespace))"
)
# `Enter password for bob: …`, not `wrong password for user: bob`; `passphrase for key is …`.
_PROMPT = re.compile(
    r" (?:for|of|to) [^\n:]{0,64}?"
    r"(?:(?P<whose>[^\s:\"']{1,64})[\"']?:[ \t]{1,4}(?P<value>[^\s\"'`\[<][^\s]{0,128})"
    rf"|(?<=\s)(?:is|was)[ \t](?P<value_2>{_WORD_GIVEN}))"
)

_FORMS = (
    _Form(
        "private-key",
        ("-----begin ",),
        re.compile(
            rf"-----BEGIN {_PEM_NAME}-----(?:[A-Za-z0-9+/=\\,:.|\s]|-(?!----))*+"
            rf"(?:-----END {_PEM_NAME}-----)?"
        ),
        _whole,
    ),
    # The second half of one, where a text was cut.
    _Form(
        "private-key",
        ("private key",),
        re.compile(
            rf"(?<![A-Za-z0-9+/=\\|\s])[A-Za-z0-9+/=\\|\s]{{16,}}+-----END {_PEM_NAME}-----"
        ),
        _whole,
    ),
    # An address: from the first colon to the last `@` of the word. A port and a path are no
    # password, and one with blanks ends where a host follows.
    _Form(
        "password",
        ("://",),
        re.compile(
            r"://[^\s:@/\"'<>\[]{0,128}:(?!\d{1,5}/)"
            r"(?:(?=[^\s@]{0,256}+@)(?P<value>[^\s]{1,256})@(?=[^\s@])"
            r"|(?P<value_2>(?!\d{1,5}\b)(?!\[redacted:)[^\s/:@][^\n:@/\"'<>]{1,64})"
            r"@(?=[\w.-]{1,255}(?:[:/?]|$)))"
        ),
        _value,
    ),
    _Form(
        "credentials",
        ("://",),
        re.compile(r"://(?P<value>[A-Za-z0-9_.~%-]{16,256})@"),
        _value,
    ),
    _Form(
        "password",
        ("jdbc:oracle",),
        re.compile(
            r"jdbc:oracle:\w{1,20}:[^/\s]{1,64}/(?!\[redacted:)(?P<value>[^@\s]{1,256})@",
            re.IGNORECASE,
        ),
        _value,
    ),
    _Form(
        "password",
        ("@tcp(", "@unix("),
        re.compile(r"(?<![^\s\"'=])[\w.-]{1,64}:(?P<value>[^\s\"']{1,128})@(?:tcp|unix)\("),
        _value,
    ),
    _Form(
        "password",
        ("@",),
        re.compile(
            r"(?<![\w/:.@-])(?!(?:mailto|sips?|acct|xmpp|ssh|git|from|to|cc|bcc|e-?mail|user|by)\b)"
            r"[\w.-]{1,64}:(?!\[redacted:)(?P<value>[^\s:@/\"'<>]{4,64})"
            r"@[A-Za-z0-9][\w-]{0,62}(?:\.[\w-]{1,63}){0,6}:\d{2,5}\b",
            re.IGNORECASE,
        ),
        _value,
    ),
    _Form(
        "webhook",
        ("hooks.slack.com", "hooks.slack-gov.com"),
        re.compile(
            r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/(?P<value>[\w/-]{8,})",
            re.IGNORECASE,
        ),
        _value,
    ),
    _Form(
        "webhook",
        ("/api/webhooks/", "webhook.office.com", "hooks.zapier.com", "chat.googleapis.com"),
        re.compile(
            r"(?:/api/webhooks/|webhook\.office\.com/|hooks\.zapier\.com/hooks/"
            r"|chat\.googleapis\.com/v1/spaces/)(?P<value>[\w@/?=&%.-]{16,})",
            re.IGNORECASE,
        ),
        _value,
    ),
    # To the end of the line or of the quotes: schemes, cookies and signatures hold blanks. Where a
    # scheme has quotes of its own, to the quote with which the header began.
    _Form(
        "",
        ("authorization", "cookie"),
        re.compile(
            r"(?P<opens>[\"']?)(?<![\w])(?:[\w-]{0,24}-)?(?P<name>authorization|cookie2?)"
            r"(?>(?P<closes>\\{0,4}[\"'])?\]?\s{0,4}(?:=>|[:=]|(?P<comma>,))\s{0,4}"
            r"(?P<quote>b?\\{0,4}[\"'])?)"
            r"(?!\[redacted:[\w-]{1,40}\](?:[\s\"',)}\\\]]|$))"
            r"(?P<value>(?P<quoting>(?:digest|oauth|hawk|signature|mac|aws4-hmac-sha256)\s)?"
            r"[^\s\"'\\][^\n\r\"'\\]{0,8192})",
            re.IGNORECASE,
        ),
        _headers,
    ),
    _Form(
        "bearer",
        ("bearer",),
        re.compile(
            r"\bbearer(?:\s|%20|:){1,3}"
            r"(?=[A-Za-z~+/-]{0,200}[0-9._=])(?P<value>[\w.~+/=-]{8,})",
            re.IGNORECASE,
        ),
        _value,
    ),
    _Form(
        "basic",
        ("basic",),
        re.compile(
            r"\bbasic\s{1,3}(?=[A-Za-z+/]{0,200}[0-9=])(?P<value>[A-Za-z0-9+/]{8,}={0,2})",
            re.IGNORECASE,
        ),
        _value,
    ),
    # <password>…</password>
    _Form(
        "",
        ("</",),
        re.compile(
            r"<(?:[\w-]{1,40}:)?" + _NAME + r"(?:\s[^<>]*+)?>"
            r"(?:\s{0,40}<!\[CDATA\[(?P<value_1>[^\]<]++)|(?P<value_2>[^<]++)(?=</|$))"
        ),
        _by_name,
    ),
    # {"name": "password", "value": "…"}, the other way round, and in YAML.
    _Form(
        "",
        _VALUE_HINTS,
        re.compile(
            rf"{_NAME_KEYS}"
            r"(?:\\{0,4}[\"'])?\s{0,4}[:=][ \t]{0,4}(?:\\{0,4}[\"'])?" + _NAME +
            r"(?:\\{0,4}[\"'])?"
            r"[\s,;-]{1,40}(?:[\w\"'\\]{1,24}\s{0,2}[:=]\s{0,2}[\w\"'\\]{1,40}[\s,]{1,20}){0,2}"
            rf"(?:\\{{0,4}}[\"'])?[A-Za-z]{{0,20}}?{_VALUE_KEYS}"
            r"(?:\\{0,4}[\"'])?\s{0,4}[:=]\s{0,4}" + _ANY,
            re.IGNORECASE,
        ),
        _by_name,
        _HINTS_OF_NAMES,
    ),
    _Form(
        "",
        _VALUE_HINTS,
        re.compile(
            rf"{_VALUE_KEYS}(?:\\{{0,4}}[\"'])?\s{{0,4}}[:=]\s{{0,4}}"
            r"(?:\\{0,4}\"(?P<value_1>[^\"\\]{1,256})|\\{0,4}'(?P<value_2>[^'\\]{1,256}))"
            rf"\\{{0,4}}[\"'][\s,;]{{1,20}}(?:\\{{0,4}}[\"'])?{_NAME_KEYS}"
            r"(?:\\{0,4}[\"'])?\s{0,4}[:=]\s{0,4}(?:\\{0,4}[\"'])?" + _NAME,
            re.IGNORECASE,
        ),
        _by_name,
        _HINTS_OF_NAMES,
    ),
    # <entry key="password">…</entry>, <name>password</name> <value>…</value>
    _Form(
        "",
        ("</",),
        re.compile(
            rf"<[\w-]{{1,40}}\s[^<>]{{0,200}}?\b{_NAME_KEYS}=[\"']" + _NAME + r"[\"'][^<>]{0,200}>"
            r"(?P<value_1>[^<]++)(?=</|$)",
            re.IGNORECASE,
        ),
        _by_name,
    ),
    _Form(
        "",
        ("</",),
        re.compile(
            rf"<{_NAME_KEYS}>\s{{0,20}}" + _NAME + rf"\s{{0,20}}</{_NAME_KEYS}>\s{{0,80}}"
            rf"<{_VALUE_KEYS}>(?P<value_1>[^<]++)(?=</|$)",
            re.IGNORECASE,
        ),
        _by_name,
    ),
    # What it says in words, in a table, or in a file that parts names from values by blanks.
    _Form("password", _HINTS_OF_WORDS, _NOUN, _in_words),
    # A user and the password of it.
    _Form(
        "password",
        ("creds", "credential", "login", "basic auth", "/pass", "user_info", "user.info"),
        re.compile(
            r"(?:\b(?:creds|credentials?|login(?: with| as)?|basic auth"
            r"|user(?:name)?/pass(?:word|wd)?)|user[._]info)(?:\s?[:=]\s?|\s)\(?"
            rf"[\"']?[\w.@-]{{1,64}}\s?[:/,]\s?(?P<value>{_WORD_GIVEN})",
            re.IGNORECASE,
        ),
        _if_given,
    ),
    _Form(
        "password",
        ("@",),
        re.compile(
            r"/(?<=[\w$#]/)"
            r"(?:(?P<value_1>[^\s/@:\"'\[]{3,64}+)@"
            r"(?=//|(?!sha\d)[A-Za-z]{2}[\w.-]{0,63}(?:[:/]|\d{1,3}\b))"
            rf"|(?P<value_2>{_WORD_OF_USER})@(?![vV]\d|(?:main|master|latest|next|dev|stable|head)\b)"
            r"(?=[A-Za-z]))"
        ),
        _oracle,
    ),
    # A line of ~/.pgpass.
    _Form(
        "password",
        (":",),
        re.compile(
            r":(?<=\w:)(?:\d{2,5}|\*):[\w*.-]{1,64}:[\w.*-]{1,64}:"
            rf"(?P<value>{_WORD_GIVEN})(?=\s|$)"
        ),
        _if_given,
    ),
    # Commands of protocols.
    _Form(
        "password",
        ("auth",),
        re.compile(
            r"AUTH(?<![\w-]AUTH)[\"']?\s{1,2}(?:[\"']?(?P<user>[A-Za-z][\w.-]{0,40})[\"']?\s{1,2})?"
            r"(?:[\"']?(?P<value_1>[^\s\"'\[<]{1,256}+)(?=[\"']|\n|$)"
            rf"|(?P<value>{_WORD_GIVEN}={{0,2}}))"
        ),
        _sent,
    ),
    _Form(
        "password",
        ("pass ", "login "),
        re.compile(rf"\b(?:PASS|LOGIN [\w.@\"-]{{1,64}}) (?P<value>{_WORD_GIVEN})"),
        _if_given,
    ),
    _Form(
        "password",
        ("password(", "passwd("),
        re.compile(r"\bpass(?:word|wd)\(\s?(?=[bru]?[\"'])" + _QUOTED, re.IGNORECASE),
        _value,
    ),
    _Form(
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
        _value,
    ),
    # The brackets of a list with one pair.
    _Form(
        "",
        _HINTS_OF_WORDS,
        re.compile(
            r"\[\s?[\"']" + _NAME + rf"[\"'],\s?[\"'](?P<value_1>{_WORD_GIVEN})[\"']\s?\]",
        ),
        _by_name_if_given,
    ),
    _Form(
        "password",
        ("pass", "pwd"),
        re.compile(
            rf"\b(?:{_SAYS_ONE})(?: is| was| of| for| with)?(?::| [\w@.-]{{1,64}}:)?"
            r" {1,2}(?=[bru]{0,2}\\{0,4}[\"'`])" + _QUOTED,
            re.IGNORECASE,
        ),
        _value,
    ),
    _Form(
        "api-key",
        ("key", "token", "credential", "secret"),
        re.compile(
            rf"\b(?:{_SAYS_A_KEY}){_FILLER}:?\s{{0,2}}"
            r"(?:[\"'`(<](?P<value>[^\s\"'`()<>]{6,512})|(?<=\s)(?P<value_2>[^\s\"',;()<>]{8,512}))",
            re.IGNORECASE,
        ),
        _if_random,
    ),
    _Form(
        "api-key",
        ("api key", "apikey", "api-key", "api_key", "key provided"),
        re.compile(
            rf"\b(?:(?:api[ _-]?|access |secret )key(?!\w){_FILLER}:?\s{{0,2}}"
            r"[\"'`](?P<value>[^\s\"'`\[]{3,512})"
            r"|key provided(?: is)?:?\s{1,2}(?!\[redacted:)(?P<value_2>[^\s\"',;]{4,512}))",
            re.IGNORECASE,
        ),
        _value,
    ),
    # What requests takes: a tuple of user and password.
    _Form(
        "password",
        ("auth",),
        re.compile(
            r"auth(?:\s?=|:)?\s?\(\s?[bru]?[\"'][^\"'\n]{1,128}[\"'],\s?(?=[bru]?[\"'])" + _QUOTED,
            re.IGNORECASE,
        ),
        _value,
    ),
    _Form(
        "password",
        ("identified by",),
        re.compile(r"\bidentified by (?:password )?" + _ANY, re.IGNORECASE),
        _value,
    ),
    # Pydantic writes the field into one line, and what it was given into the next.
    _Form(
        "",
        ("input_value=",),
        re.compile(
            r"(?<![\w.-])(?P<name>[\w.-]{1,80})\\{0,4}[\nn][ |]{2,40}[^\n]{1,300}?"
            r"\binput_value=(?P<value>[^\n]{1,300}?)(?=, input_type=)"
        ),
        _by_name,
    ),
    # Command lines.
    _Form(
        "",
        ("--",),
        re.compile(
            r"(?<![\w-])--" + _NAME + r"(?:[\"'],\s{0,2}(?=[\"'])|\s{1,2}(?!-))" + _ANY,
            re.IGNORECASE,
        ),
        _by_name,
    ),
    _Form(
        "password",
        (" -u", "'-u", '"-u', "--user", "--proxy-user"),
        re.compile(
            r"(?<![\w-])(?:-u|--(?:proxy-)?user)(?:[\"'],\s{0,2}|[\s=]{0,2})[\"']?"
            r"[^\s:\"'/,]{1,64}:(?!\[redacted:)(?P<value>[^\s\"']{1,256})"
        ),
        _value,
    ),
    _Form(
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
        _value,
    ),
    *(
        _Form("password", hints, re.compile(pattern), _sent)
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
    _Form(
        "password",
        ("login",),
        re.compile(r"\blogin\s{1,4}[^\s]{1,128}\s{1,4}password\s{1,4}(?P<value>[^\s\"']{1,256})"),
        _value,
    ),
    _Form(
        "password",
        ("pass:",),
        re.compile(r"(?<![\w.])pass:(?P<value>[^\s\"':,;]{4,256})(?=[\s\"']|$)"),
        _value,
    ),
    # A secret of Kubernetes: all that it holds.
    _Form(
        "secret",
        ("secret",),
        re.compile(r"\bkind:\s{0,2}[\"']?Secret\b"),
        _manifest,
    ),
    # AWS gives no name to its secret keys but in their neighbourhood.
    _Form(
        "aws-secret-key",
        ("aws", "akia", "asia"),
        re.compile(r"(?<![A-Za-z0-9/+=_.-])(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=_-])"),
        _if_mixed,
    ),
)  # fmt: skip

# A name begins where a run of its characters does, takes all of it, and what parts it from its
# value follows: `=`, `: `, `=>`, `", "`; in JSON, in JSON within JSON, in a repr.
_ASSIGNMENT = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]++)"
    r"(?:(?:\\{0,4}[\"'`])?+\]?+\s{0,4}+(?:=>|->|:=|={1,3}|(?P<colon>:(?!//)))"
    r"|(?P<comma>(?:\\{0,4}[\"']),))\s{0,4}+"
)
_FULL = re.compile(_ANY)
# In a connection string values hold blanks: up to the semicolon.
_UP_TO_SEMICOLON = re.compile(r"(?P<value>[^;\"'\n]{1,256})(?=;|[\"'\n]|$)")
_NEXT_OF_STRING = re.compile(r"[^;\"'\n]{1,128};\s?[\w ]{1,30}=")
# No value of a weaker name holds another name, so that nothing is looked at twice.
_WORD = re.compile(r"(?:[bru]{0,2}\\{0,4}[\"'`])?(?P<value>[\w.~+/%$!^*-]{8,4096}+={0,2})")
_BEFORE_NAME = re.compile(r"([A-Za-z]{2,20})[ ]\Z")
_MOST_PROSE_CHARS = 64


def _named(text: str) -> Iterator[Span]:
    done = 0
    for found in _ASSIGNMENT.finditer(text):
        if found.start() < done:
            continue
        said = said_by(_whole_name(text, found))
        if said is None or (found["comma"] and not _is_pair(text, found.start())):
            continue
        span = _value_behind(text, found, said)
        if span is not None:
            done = span[1]
            yield span


def _whole_name(text: str, found: re.Match[str]) -> str:
    """Return the name with the word before it: `API key:`."""
    name = found["name"]
    if name[-3:].lower() not in {"key", "ken"}:
        return name
    begins = found.start()
    before = _BEFORE_NAME.search(text[max(begins - 24, 0) : begins])
    return name if before is None else f"{before[1]}_{name}"


def _value_behind(text: str, found: re.Match[str], said: Named) -> Span | None:
    at, colon = found.end(), bool(found["colon"])
    # Behind `token:` stands what a parser met, too.
    counted = said.says is Says.TOKEN and colon and _OPENS_QUOTES.match(text, at) is None
    if said.says is Says.MAYBE or counted:
        word = _WORD.match(text, at)
        if word is None or not is_told(said, word["value"], sure=not counted):
            return None
        return *word.span("value"), said.what
    if not colon and _in_connection_string(text, found):
        until = _UP_TO_SEMICOLON.match(text, at)
        if until is not None and is_told(said, until["value"]):
            return *until.span("value"), said.what
    value = _FULL.match(text, at)
    if value is None:
        return None
    group = value.lastgroup or ""
    told = value[group]
    if colon and group == _BARE_GROUP and _is_prose(text, found, told):
        return None
    return (*value.span(group), said.what) if told and is_told(said, told) else None


_BARE_GROUP = "value_6"
_OPENS_QUOTES = re.compile(r"[bru]{0,2}\\{0,4}[\"'`]")


def _in_connection_string(text: str, found: re.Match[str]) -> bool:
    before = text[max(found.start() - 2, 0) : found.start()]
    return ";" in before or _NEXT_OF_STRING.match(text, found.end()) is not None


_NO_SECRETS = frozenset({"none", "null", "nil", "true", "false", "undefined", "", "...", "…"})
_PROSE = frozenset(
    [
        "required",
        "missing",
        "invalid",
        "field",
        "not",
        "is",
        "must",
        "incorrect",
        "wrong",
        "expired",
        "unknown",
        "empty",
        "denied",
        "the",
        "rejected",
        "a",
        "an",
        "no",
        "authentication",
        "error",
        "failed",
        "does",
        "was",
        "has",
        "cannot",
        "could",
        "should",
        "str",
        "bytes",
        "int",
        "bool",
        "object",
        "any",
        "string",
        "secretstr",
        "optional[str]",
        "str|none",
        "and",
        "or",
        "to",
        "for",
        "on",
        "in",
        "at",
        "by",
        "it",
        "this",
        "you",
        "your",
        "please",
        "see",
        "use",
        "set",
        "unset",
        "input",
        "value",
        "too",
        "command",
        "called",
        "against",
        "with",
        "method",
        "ok",
        "yes",
    ]
)


def _is_prose(text: str, found: re.Match[str], value: str) -> bool:
    """Say whether a sentence goes on behind the colon: `password: field required`."""
    if len(value) > _MOST_PROSE_CHARS or text[found.end() - 1 : found.end()] not in {" ", "\n"}:
        return False
    return value.lower().rstrip(",.;:)]}") in _PROSE


_REFERENCE = re.compile(r"(?:env|file):[\w./:-]{1,200}")
_IN_ITS_PLACE = re.compile(
    r"\[redacted:[\w-]{1,40}\]|\*{2,}|x{4,}|<[\w .-]{1,60}>?|\{\{?[\w .-]{1,60}\}{0,2}"
    r"|\$\{\w{1,60}\}?|(?-i:\$[A-Z_][A-Z0-9_]{2,60})|%s|%\(\w{1,60}\)s|(?:self|settings|config|os|cfg|args|env)\.[\w.]{1,100}(?:[\[(].{0,60})?"
    r"|(?:env|file):[\w./:-]{1,200}|[\w.]{0,60}get_secret_value\(\)?",
    re.IGNORECASE,
)
_MOST_IN_PLACE_CHARS = 220


def is_told(said: Named, value: str, *, sure: bool = True) -> bool:
    """Say whether a value is a secret; one such as None tells more as it is.

    Args:
        said: What its name says.
        value: The value.
        sure: Whether a token is one unless it is a number; else it has to look like one.
    """
    if value.lower() in _NO_SECRETS:
        return False
    if len(value) <= _MOST_IN_PLACE_CHARS and _IN_ITS_PLACE.fullmatch(value):
        return False
    match said.says:
        case Says.SURE:
            return True
        case Says.TOKEN:
            if not sure:
                return looks_random(value) or bool(_UUID.fullmatch(value))
            return not (value.isdecimal() and len(value) <= _MOST_COUNTED_CHARS)
        case Says.MAYBE:
            hashed = said.what in _OF_RECORDS and _HASH.fullmatch(value) is not None
            return looks_random(value) and not hashed and not _is_name(value)


# Keys and signatures of records, caches and packages are hashes; codes are commits.
_OF_RECORDS = frozenset({"key", "code", "signature", "sig"})
_MOST_COUNTED_CHARS = 12


_NAME_OF_PARTS = re.compile(r"[a-z0-9]{1,64}(?:-[a-z0-9]{1,64}){1,16}")
_LEAST_WORD_CHARS = 4


def _is_name(value: str) -> bool:
    """Say whether it is a name with a word in it: `oauth2-proxy-7f9c4d5b6f-x2k9q`."""
    return _NAME_OF_PARTS.fullmatch(value) is not None and any(
        part.isalpha() and len(part) >= _LEAST_WORD_CHARS for part in value.split("-")
    )


_MIXED_WORDS = re.compile(
    r"v?\d[\d.]*[a-z]{0,3}|sha-?\d{1,3}|md[45]|utf-?\d{1,2}|base(?:32|58|64)|x509|(?:pkcs|oauth)-?\d{1,2}"
    r"|\d{4}-\d\d-\d\d.*|[^@\s]+@[\w-]+\.[\w.-]+|#?\d+|0x[0-9a-f]+",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"[a-z]{1,12}v?\d{1,3}", re.IGNORECASE)
_OF_PLACES = frozenset("./")
_OF_PASSWORDS = frozenset("!#$%^&*+~?@")


def looks_given(word: str, *, password: bool = True) -> bool:
    """Say whether somebody made it up: letters with digits or signs, as no word of a sentence.

    A version, a hash's name or a place is none. Where no `password` is spoken of, neither is a name
    with a number (`user42`, `db-creds-2`).
    """
    if _MIXED_WORDS.fullmatch(word) or _UUID.fullmatch(word) or _IN_ITS_PLACE.fullmatch(word):
        return False
    chars = set(word)
    if not any(map(str.isalpha, chars)):
        return False
    if not chars.isdisjoint(_OF_PASSWORDS):
        return True
    if not any(map(str.isdecimal, chars)) or not chars.isdisjoint(_OF_PLACES):
        return False
    return password or not (
        "-" in chars or "_" in chars or _NUMBERED.fullmatch(word) or _HASH.fullmatch(word)
    )


def looks_random(value: str, *, least: int = _LEAST_CHARS) -> bool:
    """Say whether a value is hardly a word, a path, a name in a program or a UUID."""
    if len(value) < least or not _ONE_WORD.fullmatch(value) or _UUID.fullmatch(value):
        return False
    if value.isupper() and "_" in value:
        return False  # The code of an error.
    if not any(char.isdecimal() for char in value) or not any(char.isalpha() for char in value):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= _LEAST_BITS


def _is_mixed(value: str) -> bool:
    return (
        any(char.islower() for char in value)
        and any(char.isupper() for char in value)
        and any(char.isdecimal() for char in value)
    )


PATTERNS = (
    *KEY_PATTERNS,
    *(form.pattern for form in _FORMS),
    *(
        _ASSIGNMENT,
        _BEFORE_NOUN,
        _BEHIND_NOUN,
        _PROMPT,
        _PLAIN,
        _FULL,
        _WORD,
        _UP_TO_SEMICOLON,
        _NEXT_OF_STRING,
        _DATA,
        _ENTRY,
        _IN_ITS_PLACE,
        _NAME_OF_PARTS,
    ),
)
"""Every pattern that is built in, for the test that each takes linear time."""
