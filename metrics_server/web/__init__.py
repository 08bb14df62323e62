"""The page for people: a second rendering of the same reading as /v1/metrics."""
