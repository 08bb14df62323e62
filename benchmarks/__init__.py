"""The rate and the latency of the server, beside a do-nothing Tornado handler: `python -m benchmarks`."""
