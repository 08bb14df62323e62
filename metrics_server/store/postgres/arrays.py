"""Arrays as PostgreSQL takes them in binary.

A batch has thousands of items, and to let psycopg look at each of them for its type takes four times as long as all the
rest of a commit. The format is that of array_send in PostgreSQL: the number of dimensions, whether there are nulls, the
type of the items, and for each dimension its length and lower bound; then each item with its length before it. All are
big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD = struct.Struct(">5i")
_LENGTH = struct.Struct(">i").pack

Encode = Callable[[Sequence[Any]], bytes]


class EncodedArray:
    """An argument of a statement that is an array, as it is sent."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _Kind(NamedTuple):
    """How arrays of a type are encoded.

    Attributes:
        item_oid: the number that PostgreSQL has for the type of the items.
        encode: makes the bytes of all items.
    """

    item_oid: int
    encode: Encode


def _numbers(dtype: str) -> Encode:
    item = np.dtype([("length", ">i4"), ("value", dtype)])
    size = np.dtype(dtype).itemsize

    def encode(values: Sequence[Any]) -> bytes:
        items = np.empty(len(values), item)
        items["length"], items["value"] = size, values
        return items.tobytes()

    return encode


def _byte_strings(values: Sequence[bytes]) -> bytes:
    return b"".join([part for value in values for part in (_LENGTH(len(value)), value)])


_KINDS = {
    "smallint[]": _Kind(21, _numbers(">i2")),
    "integer[]": _Kind(23, _numbers(">i4")),
    "bigint[]": _Kind(20, _numbers(">i8")),
    "float8[]": _Kind(701, _numbers(">f8")),
    "bytea[]": _Kind(17, _byte_strings),
}


def array(kind: str, values: Sequence[Any]) -> EncodedArray:
    """Encodes the values of an array of a kind such as bytea[]."""
    item_oid, encode = _KINDS[kind]
    if not values:
        return EncodedArray(_HEAD.pack(0, 0, item_oid, 0, 0)[:12])
    return EncodedArray(_HEAD.pack(1, 0, item_oid, len(values), 1) + encode(values))


class _EncodedArrayDumper(Dumper):
    """Sends what is encoded already. The type is told by a cast in the statement."""

    format = Format.BINARY

    def dump(self, obj: EncodedArray) -> bytes:
        return obj.data


def register(connection: Connection) -> None:
    """Lets statements on a connection take encoded arrays."""
    connection.adapters.register_dumper(EncodedArray, _EncodedArrayDumper)
