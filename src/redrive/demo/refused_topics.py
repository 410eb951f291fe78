"""The reviewer's policy: a file that lists the topics it refuses, one a line.

It lies outside the event: after a refusal this is to be changed, and the event stays as it is.
Standard library only: the graph's process reads, the demo writes.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["REFUSED_TOPICS_FILE", "is_refused"]

REFUSED_TOPICS_FILE = "DEMO_REFUSED_TOPICS"
"""The environment variable that names the file; without it nothing is refused."""


def is_refused(topic: str) -> bool:
    """Say whether the policy refuses this topic, as the file stands now.

    Raises:
        FileNotFoundError: The file that is named is not there.
    """
    file = os.environ.get(REFUSED_TOPICS_FILE)
    if not file:
        return False
    return topic in Path(file).read_text(encoding="utf-8").splitlines()
