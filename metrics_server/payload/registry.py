"""The prefix that a schema registry puts before the bytes of a Kafka record."""

from __future__ import annotations

_MAGIC = b"\0"  # neither JSON nor a protobuf message can begin with it
_PREFIX_BYTES = 5  # magic and the number of the schema


def strip_registry_frame(value: bytes) -> bytes:
    """The payload of a record: without magic byte, number of the schema and message index, or as it is if it has none of them.

    Args:
        value: of the record. The index, which only protobuf has, says which message of its schema it is: the length of the
            path, then the path, as zigzag varints; a single 0 stands for the first message.
    """
    if value[:1] != _MAGIC or len(value) <= _PREFIX_BYTES:
        return value
    if value[_PREFIX_BYTES : _PREFIX_BYTES + 1] == b"{":  # JSON, which has no index
        return value[_PREFIX_BYTES:]
    length, position = _varint(value, _PREFIX_BYTES)
    for _ in range(min(length, len(value))):
        _, position = _varint(value, position)
    return value[position:]


def _varint(value: bytes, position: int) -> tuple[int, int]:
    """The zigzag varint at a position, and where it ends."""
    number = shift = 0
    for end in range(position, min(position + 10, len(value))):
        number |= (value[end] & 0x7F) << shift
        shift += 7
        if value[end] < 0x80:
            return (number >> 1) ^ -(number & 1), end + 1
    return 0, len(value)
