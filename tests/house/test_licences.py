"""The table of licences that `make sbom` writes, of a bill of materials as CycloneDX has them."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "deploy" / "sbom" / "licences.py"
BILL = {
    "components": [
        {"name": "b", "version": "2", "licenses": [{"expression": "MPL-2.0 AND MIT"}]},
        {
            "name": "A",
            "version": "1",
            "licenses": [
                {"license": {"id": "MIT"}},
                {"license": {"name": "License :: OSI Approved :: MIT License"}},
            ],
        },
        {
            "name": "c",
            "version": "3",
            "licenses": [
                {"license": {"name": "License :: OSI Approved :: Apache Software License"}}
            ],
        },
        {"name": "d", "version": "4"},
    ]
}


def test_each_part_is_there_with_its_licence_or_that_none_is_stated() -> None:
    table = runpy.run_path(str(SCRIPT))["table"]

    assert list(table(BILL))[2:] == [
        "| A | 1 | MIT |",
        "| b | 2 | MPL-2.0 AND MIT |",
        "| c | 3 | Apache Software License |",
        "| d | 4 | not stated |",
    ]
