"""Personal data with a form of its own: mail addresses, phone numbers, accounts, cards.

Names and addresses of people have none: finding them takes a model of language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from redrive.telemetry.secret_keys import Span

__all__ = ["PATTERNS", "Personal", "personal_in"]


class Personal(StrEnum):
    """Sorts of personal data that can be masked."""

    EMAILS = "emails"
    PHONES = "phones"
    IBANS = "ibans"
    CARDS = "cards"


@dataclass(frozen=True, slots=True)
class _PersonalForm:
    what: str
    hint: str
    pattern: re.Pattern[str]
    is_one: Callable[[str], bool] = bool


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal())


def _is_phone(text: str) -> bool:
    # E.164 has at most fifteen digits; below eight it is a version or an offset.
    return 8 <= len(_digits(text)) <= 15  # noqa: PLR2004 - said above


def _is_iban(text: str) -> bool:
    """Check it as ISO 13616 does: modulo 97, letters as numbers."""
    plain = text.replace(" ", "")
    number = "".join(str(int(char, 36)) for char in plain[4:] + plain[:4])
    return int(number) % 97 == 1


# How cards of the large networks begin, and how long they are.
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|35\d{14}|6(?:011|5\d\d|4[4-9]\d)\d{12}"
)


def _is_card(text: str) -> bool:
    """Check how it begins and its last digit (Luhn): ids of as many digits seldom pass both."""
    digits = _digits(text)
    if not _CARD.fullmatch(digits):
        return False
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


_FORMS = {
    Personal.EMAILS: _PersonalForm(
        "email",
        "@",
        re.compile(
            r"(?<![\w.+-])[\w.+-]{1,64}@[^\W_](?:[\w-]{0,62})(?:\.[\w-]{1,63}){0,6}\.[^\W\d_]{2,24}"
            r"(?![\w-])"
        ),
    ),
    Personal.PHONES: _PersonalForm(
        "phone",
        "+",
        re.compile(r"(?<![\w+.-])\+\d{1,3}(?:[ ().\-/]{0,2}\d){6,13}(?![\w:])"),
        _is_phone,
    ),
    Personal.IBANS: _PersonalForm(
        "iban",
        "",
        re.compile(
            r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"
        ),
        _is_iban,
    ),
    Personal.CARDS: _PersonalForm(
        "card", "", re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])"), _is_card
    ),
}

PATTERNS = tuple(form.pattern for form in _FORMS.values())
"""All patterns, for the test that each takes linear time."""


def personal_in(text: str, sorts: Iterable[Personal]) -> Iterator[Span]:
    """Find personal data of these sorts."""
    for sort in sorts:
        form = _FORMS[sort]
        for found in form.pattern.finditer(text) if form.hint in text else ():
            if form.is_one(found[0]):
                yield found.start(), found.end(), form.what
