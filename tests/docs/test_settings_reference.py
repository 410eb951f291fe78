from __future__ import annotations

from pathlib import Path

from redrive.settings_reference import settings_reference

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_settings_page_is_the_one_that_the_models_make() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == settings_reference(), (
        "run: python -m redrive.settings_reference > docs/settings.md"
    )


def test_a_default_is_written_as_it_may_be_given() -> None:
    page = settings_reference()

    assert (
        "| `kafka.retry_topic` | `REDRIVE_KAFKA__RETRY_TOPIC` | `workflow-events-retry` |" in page
    )
    assert "| `worker.buffer` | `REDRIVE_WORKER__BUFFER` | `64MiB` |" in page
    assert "| `retry.max_delay` | `REDRIVE_RETRY__MAX_DELAY` | `1m` |" in page
    assert "| `graphs.ID.target` | `REDRIVE_GRAPHS__ID__TARGET` | none |" in page
    assert "| `kind` | required |" in page
