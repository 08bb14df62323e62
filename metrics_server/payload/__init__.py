"""Payload protocols: bytes to rows. One module each, one table."""
