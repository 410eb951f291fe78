"""Where a secret is by what stands around it: addresses, headers, markup, data, a command's line.

Each form says by which texts it begins, so that its pattern is tried only where one of them stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redrive.telemetry.secret_keys import Span, found_in
from redrive.telemetry.secret_looks import (
    is_mark,
    is_mixed,
    is_told,
    looks_generated,
    looks_given,
    looks_random,
)
from redrive.telemetry.secret_names import NAMES_OF_NAMES, NAMES_OF_VALUES, said_by

__all__ = [
    "ANY_VALUE",
    "BARE_GROUP",
    "FORMS",
    "FORM_PATTERNS",
    "HINTS_OF_WORDS",
    "QUOTED",
    "WORD_GIVEN",
    "Form",
    "by_name",
    "if_given",
    "if_random",
    "is_pair",
    "value_in",
]


@dataclass(frozen=True, slots=True)
class Form:
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
    find: Callable[[str, Form], Iterator[Span]]
    needs: tuple[str, ...] = ("",)


def _whole(text: str, form: Form) -> Iterator[Span]:
    yield from found_in(text, form.pattern, form.what)


def value_in(text: str, form: Form) -> Iterator[Span]:
    """Mask the group `value`, or one that begins with it."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        if not is_mark(found[group]):
            yield *found.span(group), form.what


def if_random(text: str, form: Form) -> Iterator[Span]:
    """Mask the group `value` where it looks random."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        if "*" in found[group] or looks_random(found[group], least=12):
            yield *found.span(group), form.what


def by_name(text: str, form: Form) -> Iterator[Span]:
    """Mask the value if the group `name` says that it is a secret."""
    for found in form.pattern.finditer(text):
        group = next(g for g, v in found.groupdict().items() if g.startswith("value") and v)
        said = said_by(found["name"])
        if said is not None and is_told(said, found[group]):
            yield *found.span(group), said.what


def if_given(text: str, form: Form) -> Iterator[Span]:
    """Mask the group `value` where it is no word of a sentence."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        word = found[group].rstrip(".!?")
        if looks_given(word) or (group == "value" and looks_random(word)):
            begins = found.start(group)
            yield begins, begins + len(word), form.what


def _by_name_if_given(text: str, form: Form) -> Iterator[Span]:
    return (span for span in by_name(text, form) if looks_given(text[span[0] : span[1]]))


def _oracle(text: str, form: Form) -> Iterator[Span]:
    """Mask the password of `user/password@database`; `owner/package@version` has none."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        if group == "value_1" or looks_given(found[group]):
            yield *found.span(group), form.what


def _webhook(text: str, form: Form) -> Iterator[Span]:
    """Mask a path that is known for one, or that holds what was generated."""
    for found in form.pattern.finditer(text):
        group = found.lastgroup or "value"
        path = found[group][:_MOST_PATH_CHARS]
        if group == "value" or any(map(looks_generated, _PARTS_OF_PATH.split(path))):
            yield *found.span(group), form.what


_MOST_PATH_CHARS = 512
_PARTS_OF_PATH = re.compile(r"[^A-Za-z0-9]")


_OPENS_PAIR = re.compile(r"(?:\(\s?b?|--)[\"']?(?:--)?[\w.-]*\Z")

_PAIR_CHARS = 60


def is_pair(text: str, at: int) -> bool:
    """Say whether a comma parts a name from its value: ("name", "value"), "--name", "value"."""
    return _OPENS_PAIR.search(text[max(at - _PAIR_CHARS, 0) : at]) is not None


def _headers(text: str, form: Form) -> Iterator[Span]:
    for found in form.pattern.finditer(text):
        if found["comma"] and not is_pair(text, found.start("name")):
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


def _manifest(text: str, form: Form) -> Iterator[Span]:
    at = 0
    for found in form.pattern.finditer(text):
        begins = _DATA.search(text, max(at, found.end()))
        if begins is None:
            return
        at = begins.end()
        while (entry := _ENTRY.match(text, at)) is not None:
            yield *entry.span("value"), form.what
            at = entry.end()


def _if_mixed(text: str, form: Form) -> Iterator[Span]:
    return (span for span in value_in(text, form) if is_mixed(text[span[0] : span[1]]))


# `|`: a traceback draws a line beside the members of a group.
_PEM_NAME = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?"

QUOTED = (
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

ANY_VALUE = rf"(?:{QUOTED}|{_BARE})"
BARE_GROUP = "value_6"

NAME = r"(?P<name>[\w.-]{1,80})"

_KEY_BEGINS = r"(?:(?<![A-Za-z])|(?-i:(?<=[a-z])(?=[A-Z])))"

_NAME_KEYS = rf"{_KEY_BEGINS}(?:{'|'.join(NAMES_OF_NAMES)})"

_VALUE_KEYS = rf"{_KEY_BEGINS}(?:{'|'.join(NAMES_OF_VALUES)})"

# Not the word in a sentence: "Expecting value: line 1".
_VALUE_HINTS = tuple(
    hint.format(name)
    for name in NAMES_OF_VALUES
    for hint in ('{}"', "{}'", "{}\\", "{}=", "  {}:", "\t{}:")
)

_HINTS_OF_NAMES = (
    *("pass", "pwd", "secret", "token", "cred", "cookie", "auth", "key'", 'key"', "_key", "-key"),
    *(".key", "apikey", "accesskey", "kennwort", "contrasena", "string"),
)

HINTS_OF_WORDS = ("pass", "pwd", "secret", "token", "community", "masterauth", "key")

_WORD_OF_USER = r"[^\s\"'`,;:()<>=\[\]{}|/]{4,64}"

# One word, which may be no word of a language: `looks_given` says so.
WORD_GIVEN = (
    r"(?=[A-Za-z!#$%^&*+~?@.-]{0,64}\d|[A-Za-z0-9.-]{0,64}[!#$%^&*+~?@])"
    r"[^\s\"'`,;:()<>=\[\]{}|]{4,128}"
)

FORMS = (
    Form(
        "private-key",
        ("-----begin ",),
        re.compile(
            rf"-----BEGIN {_PEM_NAME}-----(?:[A-Za-z0-9+/=\\,:.|%\s]|-(?!----))*+"
            rf"(?:-----END {_PEM_NAME}-----)?"
        ),
        _whole,
    ),
    # The second half of one, where a text was cut.
    Form(
        "private-key",
        ("private key",),
        re.compile(
            rf"(?<![A-Za-z0-9+/=\\|\s])[A-Za-z0-9+/=\\|\s]{{16,}}+-----END {_PEM_NAME}-----"
        ),
        _whole,
    ),
    # An address: from the first colon to the last `@` of the word. A port and a path are no
    # password, and one with blanks ends where a host follows.
    Form(
        "password",
        ("://",),
        re.compile(
            r"://[^\s:@/\"'<>\[]{0,128}:(?!\d{1,5}/)"
            r"(?:(?=[^\s@]{0,256}+@)(?P<value>[^\s]{1,256})@(?=[^\s@])"
            r"|(?P<value_2>(?!\d{1,5}\b)(?!\[redacted:)[^\s/:@][^\n:@/\"'<>]{1,64})"
            r"@(?=[\w.-]{1,255}(?:[:/?]|$)))"
        ),
        value_in,
    ),
    Form(
        "credentials",
        ("://",),
        re.compile(r"://(?P<value>[A-Za-z0-9_.~%-]{16,256})@"),
        value_in,
    ),
    Form(
        "password",
        ("jdbc:oracle",),
        re.compile(
            r"jdbc:oracle:\w{1,20}:[^/\s]{1,64}/(?!\[redacted:)(?P<value>[^@\s]{1,256})@",
            re.IGNORECASE,
        ),
        value_in,
    ),
    Form(
        "password",
        ("@tcp(", "@unix("),
        re.compile(r"(?<![^\s\"'=])[\w.-]{1,64}:(?P<value>[^\s\"']{1,128})@(?:tcp|unix)\("),
        value_in,
    ),
    Form(
        "password",
        ("@",),
        re.compile(
            r"(?<![\w/:.@-])(?!(?:mailto|sips?|acct|xmpp|ssh|git|from|to|cc|bcc|e-?mail|user|by)\b)"
            r"[\w.-]{1,64}:(?!\[redacted:)(?P<value>[^\s:@/\"'<>]{4,64})"
            r"@[A-Za-z0-9][\w-]{0,62}(?:\.[\w-]{1,63}){0,6}:\d{2,5}\b",
            re.IGNORECASE,
        ),
        value_in,
    ),
    # Whoever knows the address of a hook may call it.
    Form(
        "webhook",
        ("hook", "chat.googleapis.com"),
        re.compile(
            r"(?:hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/|/api/webhooks/"
            r"|webhook\.office\.com/|hooks\.zapier\.com/hooks/|chat\.googleapis\.com/v1/spaces/)"
            r"(?P<value>[\w@/?=&%.-]{8,})"
            r"|(?:hooks?|/incoming)(?:\.[\w.-]{1,64})?/(?P<value_1>[\w@/?=&%.-]{16,})",
            re.IGNORECASE,
        ),
        _webhook,
    ),
    # To the end of the line or of the quotes: schemes, cookies and signatures hold blanks. Where a
    # scheme has quotes of its own, to the quote with which the header began.
    Form(
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
    Form(
        "bearer",
        ("bearer",),
        re.compile(
            r"\bbearer(?:\s|%20|:){1,3}"
            r"(?=[A-Za-z~+/-]{0,200}[0-9._=])(?P<value>[\w.~+/=-]{8,})",
            re.IGNORECASE,
        ),
        value_in,
    ),
    Form(
        "basic",
        ("basic",),
        re.compile(
            r"\bbasic\s{1,3}(?=[A-Za-z+/]{0,200}[0-9=])(?P<value>[A-Za-z0-9+/]{8,}={0,2})",
            re.IGNORECASE,
        ),
        value_in,
    ),
    # <password>…</password>
    Form(
        "",
        ("</",),
        re.compile(
            r"<(?:[\w-]{1,40}:)?" + NAME + r"(?:\s[^<>]*+)?>"
            r"(?:\s{0,40}<!\[CDATA\[(?P<value_1>[^\]<]++)|(?P<value_2>[^<]++)(?=</|$))"
        ),
        by_name,
    ),
    # {"name": "password", "value": "…"}, the other way round, and in YAML.
    Form(
        "",
        _VALUE_HINTS,
        re.compile(
            rf"{_NAME_KEYS}"
            r"(?:\\{0,4}[\"'])?\s{0,4}[:=][ \t]{0,4}(?:\\{0,4}[\"'])?" + NAME +
            r"(?:\\{0,4}[\"'])?"
            r"[\s,;-]{1,40}(?:[\w\"'\\]{1,24}\s{0,2}[:=]\s{0,2}[\w\"'\\]{1,40}[\s,]{1,20}){0,2}"
            rf"(?:\\{{0,4}}[\"'])?[A-Za-z]{{0,20}}?{_VALUE_KEYS}"
            r"(?:\\{0,4}[\"'])?\s{0,4}[:=]\s{0,4}" + ANY_VALUE,
            re.IGNORECASE,
        ),
        by_name,
        _HINTS_OF_NAMES,
    ),
    Form(
        "",
        _VALUE_HINTS,
        re.compile(
            rf"{_VALUE_KEYS}(?:\\{{0,4}}[\"'])?\s{{0,4}}[:=]\s{{0,4}}"
            r"(?:\\{0,4}\"(?P<value_1>[^\"\\]{1,256})|\\{0,4}'(?P<value_2>[^'\\]{1,256}))"
            rf"\\{{0,4}}[\"'][\s,;]{{1,20}}(?:\\{{0,4}}[\"'])?{_NAME_KEYS}"
            r"(?:\\{0,4}[\"'])?\s{0,4}[:=]\s{0,4}(?:\\{0,4}[\"'])?" + NAME,
            re.IGNORECASE,
        ),
        by_name,
        _HINTS_OF_NAMES,
    ),
    # <entry key="password">…</entry>, <name>password</name> <value>…</value>
    Form(
        "",
        ("</",),
        re.compile(
            rf"<[\w-]{{1,40}}\s[^<>]{{0,200}}?\b{_NAME_KEYS}=[\"']" + NAME + r"[\"'][^<>]{0,200}>"
            r"(?P<value_1>[^<]++)(?=</|$)",
            re.IGNORECASE,
        ),
        by_name,
    ),
    Form(
        "",
        ("</",),
        re.compile(
            rf"<{_NAME_KEYS}>\s{{0,20}}" + NAME + rf"\s{{0,20}}</{_NAME_KEYS}>\s{{0,80}}"
            rf"<{_VALUE_KEYS}>(?P<value_1>[^<]++)(?=</|$)",
            re.IGNORECASE,
        ),
        by_name,
    ),
    Form(
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
    Form(
        "password",
        (":",),
        re.compile(
            r":(?<=\w:)(?:\d{2,5}|\*):[\w*.-]{1,64}:[\w.*-]{1,64}:"
            rf"(?P<value>{WORD_GIVEN})(?=\s|$)"
        ),
        if_given,
    ),
    # The brackets of a list with one pair.
    Form(
        "",
        HINTS_OF_WORDS,
        re.compile(
            r"\[\s?[\"']" + NAME + rf"[\"'],\s?[\"'](?P<value_1>{WORD_GIVEN})[\"']\s?\]",
        ),
        _by_name_if_given,
    ),
    # What requests takes: a tuple of user and password.
    Form(
        "password",
        ("auth",),
        re.compile(
            r"auth(?:\s?=|:)?\s?\(\s?[bru]?[\"'][^\"'\n]{1,128}[\"'],\s?(?=[bru]?[\"'])" + QUOTED,
            re.IGNORECASE,
        ),
        value_in,
    ),
    # Pydantic writes the field into one line, and what it was given into the next.
    Form(
        "",
        ("input_value=",),
        re.compile(
            r"(?<![\w.-])(?P<name>[\w.-]{1,80})\\{0,4}[\nn][ |]{2,40}[^\n]{1,300}?"
            r"\binput_value=(?P<value>[^\n]{1,300}?)(?=, input_type=)"
        ),
        by_name,
    ),
    # A secret of Kubernetes: all that it holds.
    Form(
        "secret",
        ("secret",),
        re.compile(r"\bkind:\s{0,2}[\"']?Secret\b"),
        _manifest,
    ),
    # AWS gives no name to its secret keys but in their neighbourhood.
    Form(
        "aws-secret-key",
        ("aws", "akia", "asia"),
        re.compile(r"(?<![A-Za-z0-9/+=_.-])(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=_-])"),
        _if_mixed,
    ),
)  # fmt: skip

FORM_PATTERNS = (*(form.pattern for form in FORMS), _DATA, _ENTRY)
