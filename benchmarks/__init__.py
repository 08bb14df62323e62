"""What the server does per second and at what latency, beside a do-nothing Tornado handler: `python -m benchmarks`."""
