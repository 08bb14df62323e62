"""The page for people: a second rendering of the totals of /v1/metrics."""
