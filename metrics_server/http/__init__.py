"""HTTP/1.1 over a socket: bytes to requests and responses back, within limits of size and time. Knows no metric."""
