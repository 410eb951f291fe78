"""Whatever JSON an event is: one value is set, all else reads as before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from redrive.redriving.editing import Change, compact, pretty, set_values


def values(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=4), inner)
        ),
        max_leaves=12,
    )


# Some producers write Infinity, which is no JSON: it is kept, and what is set anew has none.
VALUES = values(st.floats(allow_nan=False))
NEW = values(st.floats(allow_nan=False, allow_infinity=False))
OBJECTS = st.dictionaries(st.text(min_size=1, max_size=4), VALUES, min_size=1, max_size=5)


def paths(value: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 - JSON
    if before:
        yield before
    inner = dict(enumerate(value)) if isinstance(value, list) else value
    for name, found in inner.items() if isinstance(inner, dict) else ():
        yield from paths(found, (*before, str(name)))


def put(value: Any, path: tuple[str, ...], new: object) -> None:  # noqa: ANN401 - as above
    *way, last = path
    for name in way:
        value = value[int(name) if isinstance(value, list) else name]
    value[int(last) if isinstance(value, list) else last] = new


@given(OBJECTS, NEW, st.data(), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_one_value_is_set_and_all_else_reads_as_before(
    held: dict[str, Any],
    new: object,
    data: st.DataObject,
    ascii_only: bool,  # noqa: FBT001 - drawn
    indent: int | str | None,
) -> None:
    text = json.dumps(held, ensure_ascii=ascii_only, indent=indent)
    path = data.draw(st.sampled_from([*paths(held), ("a name that is new",)]))
    dotted = ".".join(name.replace(".", "\\.") for name in path)
    if "=" in dotted or any(name.endswith("\\") for name in path):
        change = Change(path, json.dumps(new))
    else:
        change = Change.parse(f"{dotted}={json.dumps(new)}")

    found, _ = set_values(text, [change])

    put(held, path, new)
    assert json.loads(found) == held
    assert list(json.loads(found)) == list(held)


@given(VALUES, st.booleans())
def test_for_people_and_without_space_it_is_the_same(
    value: object,
    ascii_only: bool,  # noqa: FBT001 - drawn
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)

    assert json.loads(pretty(text)) == value
    assert json.loads(compact(pretty(text))) == value
    assert pretty(compact(pretty(text))) == pretty(text)
