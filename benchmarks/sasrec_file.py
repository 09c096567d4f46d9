"""The text file of MovieLens 1M that SASRec's authors published, rebuilt from ``ratings.dat``.

It has a line ``user item`` for each interaction of the 5-core, in ids of its own, which follow a rule. Users are
numbered in the order in which a dictionary of Python 2 lists their original ids, which are text there; items in the
order in which they first come up, user after user and each user's by time. The rebuilt file has the git blob of the
published one (:data:`PUBLISHED`) where ties have the order of ``ratings.dat``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

PUBLISHED = "9ab8e3edb8742f8d8cc4911e3dee25e82a6fcc24"  # data/ml-1m.txt in github.com/kang205/SASRec
_WORD = 2**64 - 1


def sasrec_file(histories: dict[str, Sequence[str]]) -> bytes:
    """The file's bytes; ``histories``: the items of each user in order, users in the order of ``ratings.dat``."""
    users = python2_order(list(histories))
    numbers: dict[str, int] = {}
    for user in users:
        for item in histories[user]:
            numbers.setdefault(item, len(numbers) + 1)
    lines = (f"{place} {numbers[item]}\n" for place, user in enumerate(users, 1) for item in histories[user])
    return "".join(lines).encode()


def git_blob(content: bytes) -> str:
    """The name that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def python2_order(keys: Sequence[str]) -> list[str]:
    """The different ``keys`` as CPython 2.7 on 64 bits lists a dictionary that they were put into one after another.

    Its table is open: a key whose place is taken goes on along a sequence that its hash gives. Two thirds full, the
    table is rebuilt with more than four times as many places as it has keys (twice as many, from 50,000 keys on).

    >>> python2_order([str(number) for number in range(1, 13)])
    ['11', '10', '12', '1', '3', '2', '5', '4', '7', '6', '9', '8']
    """
    places: list[str | None] = [None] * 8
    used = 0
    for key in dict.fromkeys(keys):
        _put(places, key)
        used += 1
        if 3 * used < 2 * len(places):
            continue
        size, least = 8, used * (4 if used <= 50_000 else 2)
        while size <= least:
            size *= 2
        old, places = places, [None] * size
        for kept in old:
            if kept is not None:
                _put(places, kept)
    return [key for key in places if key is not None]


def _put(places: list[str | None], key: str) -> None:
    shift = hashed = _python2_hash(key)
    place = hashed
    while places[place % len(places)] is not None:
        place = (5 * place + shift + 1) & _WORD
        shift >>= 5
    places[place % len(places)] = key


def _python2_hash(text: str) -> int:
    """CPython 2.7's hash of a byte string, as a word without sign."""
    value = ord(text[0]) << 7 if text else 0
    for character in text:
        value = (1_000_003 * value & _WORD) ^ ord(character)
    value ^= len(text)
    return _WORD - 1 if value == _WORD else value
