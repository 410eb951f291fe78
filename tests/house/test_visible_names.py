"""Every name that users see stands in visible_names.txt, and no other."""

from __future__ import annotations

import difflib
from pathlib import Path

from scripts.source_tree import SourceTree
from scripts.visible_names import LIST, log_events, visible_names

LOGGING = """
import structlog
from made_up.fields import fields_of

log = structlog.get_logger("made_up")

class Worker:
    def stop(self, run):
        log.info("worker.stopped", ready=True, **fields_of(run))
        self._report("worker.waits", "slot")

    def _report(self, event, wait):
        report = log.info if wait else log.warning
        report(event, waits_for=wait, **self.unknown)
"""
FIELDS = """
def fields_of(run):
    return {"topic": run.topic, **({"offset": 1} if run else {})}
"""


def test_what_users_see_is_what_the_list_says() -> None:
    listed, there = LIST.read_text(encoding="utf-8"), visible_names()

    changed = [
        line
        for line in difflib.unified_diff(listed.splitlines(), there.splitlines(), n=0, lineterm="")
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))
    ]

    assert not changed, (
        "names that users see have changed; if that is meant, run "
        "`python -m scripts.visible_names`, commit the list, and say so in CHANGELOG.md:\n"
        + "\n".join(changed)
    )


def test_an_events_name_and_fields_are_found_behind_variables_and_functions(tmp_path: Path) -> None:
    package = tmp_path / "made_up"
    package.mkdir()
    (package / "worker.py").write_text(LOGGING)
    (package / "fields.py").write_text(FIELDS)

    assert sorted(log_events(SourceTree(package))) == [
        "worker.stopped info made_up: offset, ready, topic",
        "worker.waits info or warning made_up: ..., waits_for",
    ]
