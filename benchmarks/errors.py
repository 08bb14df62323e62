"""The error that ends a benchmark."""


class BenchmarkError(Exception):
    """A measurement that means nothing: something is missing, failed, or was counted wrong."""
