"""The manifests for Knative are in the API versions of today; those of 2020 are refused, as their page says."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import kustomize
from tests.support.docs_pages import blocks, page
from tests.support.knative_api import is_knatives, refusals
from tests.support.kustomize import Object
from tests.support.manifests import KNATIVE

SETS = sorted(path.parent for path in KNATIVE.rglob("kustomization.yaml"))
PAGE = "how-to/move-from-old-knative.md"


def _on_the_page(heading: str) -> Iterator[Object]:
    """The manifests in the page's blocks that begin with this comment."""
    for language, code in blocks(page(PAGE)):
        if language == "yaml" and code.startswith(f"# {heading}\n"):
            yield from yaml.safe_load_all(code)


OLD, NEW = list(_on_the_page("2020")), list(_on_the_page("Today"))


def _named(found: Object) -> str:
    return f"{found['kind']}-{found['metadata']['name']}"


@pytest.mark.parametrize("directory", SETS, ids=lambda path: path.name)
def test_ours_are_accepted(directory: Path) -> None:
    """Every object of Knative in our manifests is of a served version, and has only members that this version has."""
    for found in kustomize.build(directory):
        assert not is_knatives(found) or not refusals(found), _named(found)


def test_each_kind_of_ours_has_a_definition() -> None:
    """No kind is accepted because nobody knows it."""
    kinds = {found["kind"] for directory in SETS for found in kustomize.build(directory) if is_knatives(found)}
    assert kinds == {"Broker", "EventTransform", "KafkaSource", "Sequence", "Service", "Trigger"}


@pytest.mark.parametrize("found", OLD, ids=_named)
def test_the_old_are_refused(found: Object) -> None:
    """Their versions are not served any more."""
    assert refusals(found) == [f"no matches for kind {found['kind']} in version {found['apiVersion']}"]


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [
        ("Trigger", ["'sourceAndType' was unexpected", "missing field(s): spec.broker"]),
        ("Service", ["Port name metrics is not allowed"]),
    ],
)
def test_a_new_version_alone_does_not_do(kind: str, reasons: list[str]) -> None:
    """With `v1` written over `v1alpha1`, what stands in the old ones is refused still."""
    (old,) = (copy.deepcopy(found) for found in OLD if found["kind"] == kind)
    old["apiVersion"] = old["apiVersion"].replace("v1alpha1", "v1")
    assert all(reason in refused for reason, refused in zip(reasons, refusals(old), strict=True))


@pytest.mark.parametrize("found", NEW, ids=_named)
def test_what_the_page_makes_of_them_is_accepted(found: Object) -> None:
    """Each of the page's own manifests is one that Knative takes."""
    assert is_knatives(found)
    assert not refusals(found)


def test_the_page_has_something_for_each_old_manifest() -> None:
    """Each old kind has its new one; the label that made a broker has become a Broker."""
    assert {found["kind"] for found in OLD} == {"Service", "Trigger"}
    assert {found["kind"] for found in NEW} == {"Service", "Trigger", "Broker"}


def test_the_directories_that_the_page_names_are_there() -> None:
    """The page leads to manifests of this repository."""
    named = set(re.findall(r"`(knative/[\w/.-]+)`", page(PAGE)))
    assert named
    assert all((KNATIVE.parent / name).exists() for name in named)
