# ruff: noqa: INP001 - a command beside what it reads
"""Writes what is in the image as a software bill of materials in CycloneDX's JSON: `make sbom`.

It is made from the locks, which are all that the image installs: name, version, and the hashes of the files that are
accepted. Operating system and Python come with the base, whose own bill is its makers'.

    python deploy/image/sbom.py dist/sbom.cdx.json
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IMAGE = Path(__file__).resolve().parent
ROOT = IMAGE.parents[1]
LOCK = IMAGE / "requirements.txt"
EXTRAS = ("web", "protobuf", "kafka", "postgres")  # those of lock.sh
SPECIFICATION = SchemaVersion.V1_6

_PIN = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)", re.MULTILINE
)


def _component(name: str, version: str, sha256s: list[str]) -> Component:
    """A package. Each of its files has a hash of its own, so that they are those of its distributions."""
    purl = PackageURL("pypi", name=canonicalize_name(name), version=version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(purl)),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in sha256s],
    )
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=str(purl),
        external_references=[files] if sha256s else [],
    )


def _locked() -> Iterator[Component]:
    for pin in _PIN.finditer(LOCK.read_text()):
        yield _component(pin["name"], pin["version"], re.findall(r"sha256:(\w+)", pin["hashes"]))


def _direct() -> set[str]:
    """The names of the packages that ours asks for itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]
    return {canonicalize_name(Requirement(text).name) for text in wanted}


def bill(version: str) -> Bom:
    """The bill of the server's image. It states no time, and its number is made of its content: what is built again is
    the same.
    """
    own = _component("feedback-metrics-server", version, [])
    own.type = ComponentType.APPLICATION
    made = Bom(components=_locked(), serial_number=uuid5(NAMESPACE_URL, f"{own.bom_ref}\n{LOCK.read_text()}"))
    made.metadata = BomMetaData(component=own)
    made.metadata.timestamp = None
    direct = _direct()
    made.register_dependency(own, [one for one in made.components if canonicalize_name(one.name) in direct])
    return made


def main(path: Path) -> None:
    """Writes the bill."""
    sys.path.insert(0, str(ROOT))
    from metrics_server import __version__

    path.parent.mkdir(parents=True, exist_ok=True)
    made = make_outputter(bill(__version__), OutputFormat.JSON, SPECIFICATION)
    path.write_text(made.output_as_string(indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
