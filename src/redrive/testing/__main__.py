"""A real Kafka on this machine, to try things on: `python -m redrive.testing`.

It fetches Apache Kafka with Maven the first time. Its data go when it ends, with Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys

from redrive.errors import SettingsError
from redrive.testing.broker import BrokerError, LocalBroker

__all__ = ["main"]


def main() -> int:
    """Run a broker until SIGINT or SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m redrive.testing", description=__doc__)
    parser.add_argument("--port", type=int, help="where it listens; by default a free port")
    port: int | None = parser.parse_args().port
    ending = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        with LocalBroker(port=port) as broker:
            print(f"Kafka is up: {broker.bootstrap_servers} (Ctrl-C ends it)", flush=True)  # noqa: T201 - its page
            signal.sigwait(ending)
    except (BrokerError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
