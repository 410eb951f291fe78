"""Secrets are masked in what we say, in every form in which they are met; other words stay."""

from __future__ import annotations

import json

import pytest
from tests.rows import rows

from redrive.dead_letter.letter_settings import LetterSettings
from redrive.errors import SettingsError
from redrive.settings import load_settings
from redrive.telemetry.redactor import BUILT_IN, Redactor

# Put together at run time: no scanner of this repository shall find a key in it.
BODY = "Zq7Kd0XvB3" + "mT9sWyE5uH" + "cRn8LfGj2PaQi4Xo"
HEX = "0a9b" * 8

SECRETS = {
    f"Incorrect API key provided: sk-{BODY}. See": f"sk-{BODY}",
    f"sk-proj-{BODY} was refused": BODY,
    f"x-api-key: sk-ant-api03-{BODY}": BODY,
    f"OpenRouter said no to sk-or-v1-{HEX}": HEX,
    f"key AIza{BODY[:35]} is not valid": f"AIza{BODY[:35]}",
    f"ya29.{BODY} has expired": BODY,
    "The AWS Access Key AKIA" + "Z7QP" * 4 + " does not exist": "Z7QP" * 4,
    "aws_secret_access_key = " + "wJ4/" * 10: "wJ4/" * 10,
    "AKIA" + "Z7QP" * 4 + " with " + "wJ4/" * 10: "wJ4/" * 10,
    f"https://ghp_{BODY}@github.com/a/b": BODY,
    f"github_pat_11AA_{BODY}": BODY,
    f"glpat-{BODY}": BODY,
    f"xoxb-1234-{BODY}": BODY,
    "https://hooks.slack.com/services/T0/B0/" + BODY: BODY,
    f"No such customer; sk_live_{BODY}": BODY,
    f"rk_test_{BODY} and whsec_{HEX}": HEX,
    f"hf_{BODY} has no access": BODY,
    f"gsk_{BODY}": BODY,
    f"lsv2_pt_{BODY}": BODY,
    f"SG.{BODY}.{BODY}": BODY,
    f"pypi-{BODY}": BODY,
    f"\\nnpm_{BODY}": BODY,
    f"12345678:AA{BODY[:33]} is no bot": BODY[:33],
    "password=hunter2": "hunter2",
    "Password: hunter2": "hunter2",
    "db_password_2 = 'hunter 2, too'": "hunter 2, too",
    '{"user": "a", "password": "hunter2"}': "hunter2",
    '{\\"client_secret\\": \\"hunter2\\"}': "hunter2",
    "{'api_key': 'hunter2', 'n': 1}": "hunter2",
    "OpenAI(api_key='hunter2', timeout=3)": "hunter2",
    "OPENAI_API_KEY=hunter2": "hunter2",
    "https://h/x?access_token=hunter2&user=a": "hunter2",
    "token=hunter2": "hunter2",
    f"the token: {BODY}": BODY,
    f"key={BODY}": BODY,
    "Authorization: Bearer hunter2.abc": "hunter2",
    "{'authorization': 'Basic aHVudGVyMg=='}": "aHVudGVyMg",
    "[(b'authorization', b'Token hunter2')]": "hunter2",
    "sent with Bearer " + BODY: BODY,
    "Set-Cookie: sid=hunter2; Path=/": "hunter2",
    "'cookie': 'a=1; session=hunter2'": "hunter2",
    "postgres://app:hunter2@db:5432/x": "hunter2",
    "mongodb+srv://app:hunt/er@2@c1,c2/x": "hunt/er@2",
    "redis://:hunter2@cache/0": "hunter2",
    "amqp://guest:hunter2@mq//": "hunter2",
    f"https://{HEX}@o1.ingest.sentry.io/1": HEX,
    "jdbc:oracle:thin:scott/hunter2@//db/x": "hunter2",
    "jdbc:sqlserver://h;user=sa;password=hunter2;encrypt=true": "hunter2",
    "sasl.password=hunter2": "hunter2",
    'sasl.jaas.config=x required username="u" password="hunter2";': "hunter2",
    "AccountName=a;AccountKey=aHVudGVyMg==;": "aHVudGVyMg",
    "IDENTIFIED BY 'hunter2'": "hunter2",
    "login with password 'hunter2' failed": "hunter2",
    'the password is "hunter2"': "hunter2",
    "1 validation error for Login\npassword\n  Input is too short [type=too_short, "
    "input_value='hunter2', input_type=str]": "hunter2",
    "psql --password hunter2 -h db": "hunter2",
    "Command '['psql', '--password', 'hunter2']' failed": "hunter2",
    "curl -u bob:hunter2 https://h": "hunter2",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + BODY: BODY,
    f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n{HEX}\n-----END RSA PRIVATE KEY----- no": HEX,
    f"'-----BEGIN PRIVATE KEY-----\\n{BODY}\\n-----END PRIVATE KEY-----'": BODY,
    f"cut: {BODY}\n-----END EC PRIVATE KEY-----": BODY,
}

HARMLESS = [
    "password authentication failed for user 'bob'",
    "api_key=None and password='' and token = null",
    "max_tokens=4096, total_tokens: 812, prompt_tokens=12",
    "SyntaxError: unexpected token: 12",
    "http://localhost:9092/a?email=a@b.c did not answer",
    "KeyError: 'account'",
    "{'code': 'invalid_api_key', 'type': 'invalid_request_error'}",
    "key='7f0c5f0e-2a53-4a44-9c1a-0d6a1f3f8a10'",
    'KafkaError{code=_AUTHENTICATION,val=-169,str="SASL authentication error: no"}',
    "code=ERR_HTTP2_PROTOCOL_ERROR",
    "missing: ['user', 'password', 'host']",
    "Basic usage; the bearer of this; cookies are off",
    "risk-assessment-of-all-things in node 'task-force'",
    'Traceback (most recent call last):\n  File "/app/agents/pay.py", line 12, in charge',
]


@rows("text", SECRETS)
def test_a_secret_is_masked(text: str) -> None:
    masked = BUILT_IN.mask(text)

    assert SECRETS[text] not in masked
    assert "[redacted:" in masked


@rows("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert BUILT_IN.mask(text) == text


@rows("text", SECRETS)
def test_within_data_every_text_is_masked_and_every_name_of_one(text: str) -> None:
    data = {"a": text, "b": [{text: 1}, (text, None)], "c": {"n": 7}}

    masked = BUILT_IN.within(data)

    assert SECRETS[text] not in json.dumps(masked, ensure_ascii=False)
    assert masked["c"] == {"n": 7}


def test_within_data_a_name_tells_of_a_secret() -> None:
    told = {"password": "hunter2", "n": [{"api_key": "a b"}], "dlq_id": "7f0c5f0e-2a53", "x": "y"}

    assert BUILT_IN.within(told) == {
        "password": "[redacted:password]",
        "n": [{"api_key": "[redacted:api-key]"}],
        "dlq_id": "7f0c5f0e-2a53",
        "x": "y",
    }


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgres://app:pw1@db/x", "postgres://app:[redacted:password]@db/x"),
        ('{"password": "a\\"b", "user": "c"}', '{"password": "[redacted:password]", "user": "c"}'),
        ("f(api_key='a', n=1)", "f(api_key='[redacted:api-key]', n=1)"),
        ("?token=a&user=b", "?token=[redacted:token]&user=b"),
        ("(password=a)", "(password=[redacted:password])"),
        (f"İ sk-{BODY}", "İ [redacted:openai-key]"),
    ],
)
def test_what_stands_around_a_secret_stays(text: str, masked: str) -> None:
    assert BUILT_IN.mask(text) == masked


def test_patterns_of_your_own_are_masked_too() -> None:
    redactor = Redactor([r"EMP-\d+", "internal"])

    assert redactor.mask("internal EMP-4711 token=a") == (
        "[redacted:custom] [redacted:custom] token=[redacted:token]"
    )


@pytest.mark.parametrize("length", [10_000, 10_000_000])
@pytest.mark.parametrize("secret", [f"sk-{BODY}", "password=hunter2"])
def test_an_excerpt_holds_no_half_of_a_secret(length: int, secret: str) -> None:
    text = (f"{secret} " * (length // len(secret)))[: length - 5]

    excerpt = BUILT_IN.excerpt(text, 4_000, tail=3_000)

    assert len(excerpt) == 4_000
    halves = [part for part in ("Zq7K", "i4Xo", "hunt", "ter2") if part in excerpt]
    assert halves == []


def test_an_excerpt_of_a_short_text_is_all_of_it() -> None:
    assert BUILT_IN.excerpt("token=a " * 10, 1_000) == ("token=[redacted:token] " * 10)


@pytest.mark.parametrize(
    ("pattern", "why"), [("(", "not a regular expression"), ("a*", "found in an empty text")]
)
def test_a_pattern_that_cannot_work_is_refused_by_its_key(pattern: str, why: str) -> None:
    with pytest.raises(SettingsError, match=rf"letters\.redact.*pattern 2: .*{why}"):
        load_settings(None, {"letters.redact": ["fine", pattern]}, {})


def test_the_settings_make_the_redactor() -> None:
    redactor = LetterSettings(redact=("EMP-[0-9]+",)).redactor()

    assert redactor.mask("EMP-1") == "[redacted:custom]"
