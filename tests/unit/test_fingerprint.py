"""What goes into a fingerprint, and what does not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest

from redrive.dead_letter.fingerprint import fingerprint
from redrive.events import WorkflowEvent
from redrive.retry.kinds import Kind
from redrive.testing.kafka_env import event


def caught(fail: Callable[[], object]) -> BaseException:
    try:
        fail()
    except BaseException as error:  # noqa: BLE001 - any may be judged
        # This frame is no part of what failed.
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    raise AssertionError("it did not fail")


def of(fail: Callable[[], object] | BaseException) -> str:
    error = fail if isinstance(fail, BaseException) else caught(fail)
    return fingerprint(error, kind=Kind.PERMANENT, node="pay", workflow_id="orders")


def module(code: str, *, name: str = "agents.pay", file: str = "/app/agents/pay.py") -> ModuleType:
    """Return a module of a user, as if it lay in a file."""
    made = ModuleType(name)
    exec(compile(code, file, "exec"), made.__dict__)  # noqa: S102 - our own text
    return made


LOOK_UP = "def look_up(known):\n    return known['account']\n"


def test_its_form_tells_its_version() -> None:
    assert re.fullmatch(r"v1:[0-9a-f]{16}", of(ValueError("no")))


def test_it_is_the_same_in_every_process() -> None:
    assert of(ValueError("no")) == "v1:67155420b458f356"


def test_lines_may_move() -> None:
    one, other = module(LOOK_UP), module("# a comment\n\n\n" + LOOK_UP)

    assert of(lambda: one.look_up({})) == of(lambda: other.look_up({}))


def test_another_function_or_module_is_another_cause() -> None:
    one = module(LOOK_UP)
    function = module(LOOK_UP.replace("look_up", "find"))
    elsewhere = module(LOOK_UP, name="agents.ship", file="/app/agents/ship.py")

    assert len({of(lambda: one.look_up({})), of(lambda: function.find({}))}) == 2
    assert len({of(lambda: one.look_up({})), of(lambda: elsewhere.look_up({}))}) == 2


def test_frames_of_libraries_do_not_count() -> None:
    user = "def ask(call):\n    call()\n"
    client = "def get():\n    send()\ndef send():\n    raise OSError('refused')\n"
    packages = "/usr/lib/python3/dist-packages"
    old = module(client, name="client", file=f"{packages}/client.py")
    new = module(client.replace("send", "transmit"), name="client", file=f"{packages}/client.py")
    ask = module(user).ask

    assert of(lambda: ask(old.get)) == of(lambda: ask(new.get))


def test_an_agent_that_is_installed_is_told_by_its_own_first_function() -> None:
    folder = "/venv/lib/python3.11/site-packages/agents"
    node = "def {}(call):\n    call()\n"
    client = module("def get():\n    raise OSError('refused')\n", name="c", file=f"{folder}/c.py")
    pay = module(node.format("pay"), name="agents.pay", file=f"{folder}/pay.py").pay
    ship = module(node.format("ship"), name="agents.pay", file=f"{folder}/pay.py").ship

    assert of(partial(pay, client.get)) != of(partial(ship, client.get))
    assert of(partial(pay, client.get)) != of(client.get)


@pytest.mark.parametrize(
    "name", ["redrive.graphs.x", "langgraph.pregel", "langchain_core.x", "json"]
)
def test_frames_of_frameworks_never_count(name: str) -> None:
    one = module(LOOK_UP, name=name, file="/src/x.py")
    other = module(LOOK_UP.replace("look_up", "find"), name=name, file="/src/x.py")

    assert of(lambda: one.look_up({})) == of(lambda: other.find({}))


def test_it_is_the_root_that_counts_not_how_it_was_wrapped() -> None:
    def wrapped(root: Exception, words: str) -> BaseException:
        outer = RuntimeError(words)
        outer.__cause__ = root
        return outer

    assert of(wrapped(KeyError("a"), "step one failed")) == of(wrapped(KeyError("b"), "step two"))
    assert of(wrapped(KeyError("a"), "no")) != of(wrapped(IndexError("a"), "no"))
    assert of(wrapped(ValueError("no quota"), "no")) != of(wrapped(ValueError("no order"), "no"))
    assert of(wrapped(KeyError("a"), "no")) != of(KeyError("a"))


def test_what_was_only_being_handled_does_not_count() -> None:
    one, other = ValueError("no"), ValueError("no")
    one.__context__, other.__context__ = KeyError("a"), OSError("b")

    assert of(one) == of(other)


def test_a_chain_that_bites_its_tail_has_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one

    assert of(one) != of(KeyError("x"))


def test_a_group_is_told_by_the_kinds_of_its_members() -> None:
    def group(*members: Exception) -> BaseException:
        return ExceptionGroup("unhandled errors in a TaskGroup", list(members))

    assert of(group(KeyError("a"), OSError("b"))) == of(group(OSError("d"), KeyError("c")))
    assert of(group(KeyError("a"), OSError("b"))) != of(group(KeyError("a"), ValueError("b")))
    assert of(group(KeyError("a"))) != of(group(OSError("a")))


class StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"the server answered {status_code}")
        self.status_code = status_code


def test_codes_are_no_values() -> None:
    assert of(StatusError(403)) == of(StatusError(403))
    assert of(StatusError(403)) != of(StatusError(404))
    assert of(OSError(2, "it failed")) != of(OSError(13, "it failed"))


def unreadable(**changes: object) -> BaseException:
    record = event({"text": ""}).model_dump(mode="json") | changes
    return caught(lambda: WorkflowEvent.from_bytes(json.dumps(record).encode()))


def test_what_cannot_be_read_is_told_by_its_field() -> None:
    assert of(unreadable(event_id="7")) == of(unreadable(event_id="not one either"))
    assert of(unreadable(event_id="7")) != of(unreadable(event_id=7))
    assert of(unreadable(event_id=7)) != of(unreadable(workflow_id=7))


def test_what_is_no_json_is_one_cause_wherever_it_breaks() -> None:
    def broken(value: bytes) -> str:
        return of(lambda: WorkflowEvent.from_bytes(value))

    assert broken(b"{") == broken(b'{"event_id": nope') == broken(b"\xff")
    assert broken(b"{") != of(lambda: WorkflowEvent.from_bytes(None))


def test_secrets_make_no_difference() -> None:
    assert of(ValueError("password=hunter")) == of(ValueError("password=correct horse"[:16]))


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_error_without_a_text_has_one_too() -> None:
    assert of(MuteError()) == of(MuteError())
