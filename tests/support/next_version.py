"""A server of the next version, for tests of rolling upgrades: its tables have one column more, and its records one
field more, which it fills in only when every server knows it."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType


def _changed(name: str, old: str, new: str) -> ModuleType:
    """The module of this name with a change in its source."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text()
    assert old in source
    module = module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(source.replace(old, new), spec.origin, "exec"), module.__dict__)
    return module


_changed("metrics_server.store.interface", "RECORD_SCHEMA = 1", "RECORD_SCHEMA = 2")
_changed("metrics_server.store.postgres.sql", "SCHEMA_VERSION = 1\n", "SCHEMA_VERSION = 2\n").MIGRATIONS[1] = (
    "ALTER TABLE records ADD COLUMN note text"
)
_changed(
    "metrics_server.pairing.record",
    "    withdrawn: list[Prediction] = []\n",
    '    withdrawn: list[Prediction] = []\n    color: str = ""\n',
)
session = _changed(
    "metrics_server.pairing.session",
    "        record, expiry_changed = loaded.record, True\n",
    "        record, expiry_changed = loaded.record, True\n"
    "        if self._store.sharing and self._store.sharing.record_schema >= 2:\n"
    '            record.color = "red"\n',
)

if __name__ == "__main__":
    sys.exit(importlib.import_module("metrics_server.__main__").main())
