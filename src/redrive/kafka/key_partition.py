"""Which partition a key goes to: the hash of Java's producer, which all our producers use (R12).

librdkafka does it by itself (`partitioner=murmur2_random`). This is for who must know it before.
"""

from __future__ import annotations

__all__ = ["partition_of_key"]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_32_BITS = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_WORD = 4


def partition_of_key(key: bytes, *, partitions: int) -> int:
    """Return the number of the partition, of so many, that records with this key go to."""
    return (_murmur2(key) & _POSITIVE) % partitions


def _murmur2(data: bytes) -> int:
    h = _SEED ^ len(data)
    words = len(data) // _WORD * _WORD
    for at in range(0, words, _WORD):
        k = int.from_bytes(data[at : at + _WORD], "little") * _M & _32_BITS
        k = (k ^ k >> 24) * _M & _32_BITS
        h = h * _M & _32_BITS ^ k
    if words < len(data):
        h = (h ^ int.from_bytes(data[words:], "little")) * _M & _32_BITS
    h = (h ^ h >> 13) * _M & _32_BITS
    return h ^ h >> 15
