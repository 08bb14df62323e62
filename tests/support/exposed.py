"""Samples of a page of metrics, read by Prometheus' own library. That is slow, so what stood in an earlier page in the
same words is not read again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples_of(page: str) -> list[Sample]:
    """All samples of a page, family by family."""
    return samples_of_parts(re.split("^(?=# HELP )", page, flags=re.MULTILINE))


def samples_of_parts(parts: Iterable[str]) -> list[Sample]:
    """The samples of some families, or lines, of a page."""
    return list(chain.from_iterable(map(_read, parts)))


@lru_cache(maxsize=10_000)
def _read(part: str) -> tuple[Sample, ...]:
    return tuple(sample for family in text_string_to_metric_families(part) for sample in family.samples)
