"""Personal data is masked where it is asked for, and only what has a form of its own."""

from __future__ import annotations

import pytest
from tests.rows import rows

from redrive.errors import SettingsError
from redrive.settings import load_settings
from redrive.telemetry.personal import Personal
from redrive.telemetry.redactor import BUILT_IN, Redactor

EVERY = Redactor(personal=Personal)

# The cards and accounts are those that networks and banks publish as examples.
MASKED = {
    "no account for jane.doe+x@mail.example.co.uk.": "no account for [redacted:email].",
    "to=%22jane%40example.com%22": "to=%22[redacted:email]%22",
    "call +49 (0)30 1234-5678 now": "call [redacted:phone] now",
    "tel:+14155552671": "tel:[redacted:phone]",
    "phone '+14155552671'": "phone '[redacted:phone]'",
    "to DE89 3704 0044 0532 0130 00 failed": "to [redacted:iban] failed",
    "GB82WEST12345698765432": "[redacted:iban]",
    "card 4111 1111 1111 1111 declined": "card [redacted:card] declined",
    "378282246310005": "[redacted:card]",
}
STAYS = [
    "offset=4111111111111112 of partition 3",
    "at 1767225600000 ms, id 175928847299117063",
    "DE00 3704 0044 0532 0130 00",
    "2026-01-01T12:00:00+02:00",
    "pip install langgraph>=1.2 @langchain/core a@b",
    "AB12CDEF34567890GHIJ",
    "+1 and +12 and c++11",
]


@rows("text", MASKED)
def test_personal_data_is_masked(text: str) -> None:
    assert EVERY.mask(text) == MASKED[text]


@rows("text", STAYS)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert EVERY.mask(text) == text


def test_nothing_personal_is_masked_unless_it_is_asked_for() -> None:
    assert [text for text in MASKED if BUILT_IN.mask(text) != text] == []


def test_the_settings_choose_what_is_masked() -> None:
    given = load_settings(None, {}, {"REDRIVE_LETTERS__REDACT_PERSONAL": "emails, cards"})

    redactor = given.letters.redactor()

    assert redactor.mask("a@example.com +14155552671") == "[redacted:email] +14155552671"


def test_a_sort_that_is_not_known_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"letters\.redact_personal"):
        load_settings(None, {"letters.redact_personal": ["names"]}, {})
