"""A key's partition, as Java's producer has it."""

from __future__ import annotations

import pytest

from redrive.kafka.key_partition import _murmur2, partition_of_key


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # From the tests of Kafka's own client (UtilsTest.testMurmur2).
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_kafkas_own_client(key: bytes, hashed: int) -> None:
    assert _murmur2(key) == hashed % 2**32


def test_every_key_has_one_of_the_partitions() -> None:
    found = {partition_of_key(str(number).encode(), partitions=7) for number in range(200)}

    assert found == set(range(7))
