"""Changing the text of an event: what is not meant stays as it was."""

from __future__ import annotations

import pytest
from tests.rows import rows

from redrive.errors import RecordError
from redrive.redriving.editing import (
    Change,
    check_event,
    compact,
    pretty,
    same,
    set_values,
    text_of,
)
from redrive.testing.kafka_env import event

ODD = (
    '{ "z" : 1.10, "big": 12345678901234567890123456789, "far": 1e400, "a":\t-0.0,\n'
    '"payload" : {"data": {"iban": "DE0\\u00fc", "sums": [1.0, 2.50, {"x": null}], "a.b": {}}},'
    ' "twice": 1, "twice": 2 }'
)


def changed(text: str, *changes: str) -> str:
    return set_values(text, [Change.parse(change) for change in changes])[0]


@rows(
    ("change", "before", "after"),
    [
        ("payload.data.iban=DE02 1203", '"DE0\\u00fc"', '"DE02 1203"'),
        ("payload.data.iban=größer", '"DE0\\u00fc"', '"größer"'),
        ('payload.data.iban="7"', '"DE0\\u00fc"', '"7"'),
        ("payload.data.iban=", '"DE0\\u00fc"', '""'),
        ("payload.data.iban=a=b", '"DE0\\u00fc"', '"a=b"'),
        ("payload.data.iban=NaN", '"DE0\\u00fc"', '"NaN"'),
        ("payload.data.sums.1=2.60", "2.50", "2.60"),
        ("payload.data.sums.2.x=1e999", "null", "1e999"),
        ("payload.data.sums.2.x=" + "9" * 5_000, "null", "9" * 5_000),
        ('payload.data.sums.2={"y": [1.10]}', '{"x": null}', '{"y": [1.10]}'),
        ("twice=3", '"twice": 2', '"twice": 3'),
        ("a=true", "-0.0", "true"),
    ],
)
def test_one_value_is_replaced_and_every_other_byte_stays(
    change: str, before: str, after: str
) -> None:
    assert ODD.count(before) == 1

    assert changed(ODD, change) == ODD.replace(before, after)


def test_a_new_key_is_added_at_the_end_of_its_object_and_told() -> None:
    wanted = ["payload.data.bic=X", r"payload.data.a\.b.c=1", r"payload.data.a\.b.d=2"]

    text, remarks = set_values(ODD, [Change.parse(change) for change in wanted])

    assert text == ODD.replace('"a.b": {}', '"a.b": {"c":1,"d":2},"bic":"X"')
    assert remarks == [f"{change.partition('=')[0]} is new" for change in wanted]


def test_another_type_is_told() -> None:
    wanted = [Change.parse("payload.data.iban=12"), Change.parse("z=2"), Change.parse("a=null")]

    _, remarks = set_values(ODD, wanted)

    assert remarks == [
        "payload.data.iban was text, and is a number now",
        "a was a number, and is null now",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("payload.date.iban=1", "payload.date is not there: payload has data"),
        ("payloat.data.iban=1", "payloat is not there: the event has z, big, far, a, payload, "),
        ("payload.data.sums.3=1", "sums.3 is not there: payload.data.sums has a list of 3, cou"),
        ("payload.data.sums.-1=1", "payload.data.sums.-1 is not there"),
        ("payload.data.sums.7.x=1", "payload.data.sums.7 is not there"),
        ("payload.data.iban.x=1", "payload.data.iban is neither an object nor a list"),
        (r"payload.data.a\.b.c.d=1", r"payload.data.a\.b.c is not there: payload.data.a\.b has no"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_how_far_it_led(change: str, said: str) -> None:
    with pytest.raises(RecordError) as raised:
        changed(ODD, change)

    assert said in str(raised.value)
    assert "DE0" not in str(raised.value)


@pytest.mark.parametrize("text", ["payload.data.iban", "=1", "a..b=1", ".a=1", "a.=1", ""])
def test_what_is_no_path_and_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not PATH=VALUE"):
        Change.parse(text)


@pytest.mark.parametrize("text", ["", "{", '{"a": 1,}', "[" * 100_000, '{"a": "\n"}'])
def test_what_is_not_json_is_refused(text: str) -> None:
    for call in (compact, pretty, lambda text: changed(text, "a=1")):
        with pytest.raises(RecordError, match=r"it is not JSON|nested too deeply"):
            call(text)


def test_an_event_for_people_has_a_value_a_line_and_the_same_numbers() -> None:
    text = '{"n":1.10,"e":{},"l":[1e400,[]],"s":"\\u00fc\\u202e{,:\\"","t":"\\u00e4"}'

    assert pretty(text) == (
        '{\n  "n": 1.10,\n  "e": {},\n  "l": [\n    1e400,\n    []\n  ],\n'
        '  "s": "\\u00fc\\u202e{,:\\"",\n  "t": "ä"\n}\n'
    )
    assert compact(pretty(text)) == text.replace("\\u00e4", "ä")


def test_space_is_no_change_and_a_digit_is_one() -> None:
    assert same(ODD, pretty(ODD).replace("ü", "\\u00fc"))
    assert not same('{"a": 1.1}', '{"a": 1.10}')
    assert same("no json", " no json\n")
    assert not same("no json", '{"a": 1}')


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(RecordError, match="has no value"):
        text_of(None)
    with pytest.raises(RecordError, match="2 bytes are not UTF-8"):
        text_of(b"\xff\x00")
    assert text_of(b"\xef\xbb\xbf{}") == "{}"


def test_only_an_event_of_the_same_id_that_a_worker_would_run_takes_the_place() -> None:
    asked = event({"iban": "DE"})
    text = asked.to_bytes().decode()

    check_event(text, event_id=asked.event_id)
    check_event(text, event_id=None)
    for broken, said in {
        text.replace(asked.event_id, event({}).event_id): "event_id has to stay",
        text.replace("workflow.triggered", "workflow.result"): "event_type is 'workflow.result'",
        changed(text, "payload=1"): "field 'payload'",
        changed(text, "payload.data.iban=\udcff"): "field|Invalid JSON",
        text[:-1]: "it is not JSON",
    }.items():
        with pytest.raises(RecordError, match=said):
            check_event(broken, event_id=asked.event_id)
