"""Prometheus, for tests of what is deployed beside redrive."""

import os

import pytest
from tests.deploy.prometheus_tools import PrometheusTools, ToolsMissingError, prometheus_tools


@pytest.fixture(scope="session")
def tools() -> PrometheusTools:
    try:
        return prometheus_tools()
    except ToolsMissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
