"""A stand-in for a cluster of models: an ingress, executors that log, callers, and truths that come late."""
