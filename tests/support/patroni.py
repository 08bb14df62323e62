"""Two PostgreSQL servers that Patroni looks after, by a key in etcd: who holds it is the primary."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.postgres import Postgres, children_of
from tests.support.running import free_port, peer
from tests.support.waiting import until

# Patroni gives up a primary that was not heard of for `ttl` seconds; later versions take no less than 20.
TIMING = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}
CLUSTER = {
    **TIMING,
    "synchronous_mode": True,
    # A primary that was lost is rewound when it comes back, which wants full_page_writes.
    "postgresql": {"use_pg_rewind": True, "parameters": {"fsync": "off", "max_connections": 100}},
}
TRUSTED = ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]


class Etcd:
    """One server of etcd on free ports of loopback."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.port, self._members_port = free_port(), free_port()

    def start(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="etcd-"))
        clients, members = (f"http://127.0.0.1:{port}" for port in (self.port, self._members_port))
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._program, "--data-dir", str(self._directory / "data"),
                    "--listen-client-urls", clients, "--advertise-client-urls", clients,
                    "--listen-peer-urls", members, "--initial-advertise-peer-urls", members,
                    "--initial-cluster", f"default={members}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory, env=_environment(),
            )  # fmt: skip

    def stop(self) -> None:
        """Ends it and deletes its directory."""
        self._process.kill()
        self._process.wait(20)
        shutil.rmtree(self._directory, ignore_errors=True)


class Node:
    """A PostgreSQL that Patroni makes, starts and promotes, and this Patroni, as one machine that can be lost."""

    def __init__(self, name: str, program: str, etcd: Etcd) -> None:
        self._program = program
        self.name = name
        self.database = Postgres()
        self._port = free_port()
        self._configuration = self.database.directory / "patroni.yml"
        self._configuration.write_text(json.dumps(self._settings(etcd)))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def _settings(self, etcd: Etcd) -> dict[str, Any]:
        database = self.database
        address, own = f"127.0.0.1:{self._port}", f"127.0.0.1:{database.port}"
        return {
            "scope": "metrics",
            "name": self.name,
            "restapi": {"listen": address, "connect_address": address},
            "etcd3": {"host": f"127.0.0.1:{etcd.port}"},
            "bootstrap": {"dcs": CLUSTER, "initdb": [{"encoding": "UTF8"}, "data-checksums", "no-sync"]},
            "postgresql": {
                "listen": own,
                "connect_address": own,
                "data_dir": str(database.data),
                "bin_dir": str(database.programs),
                "pgpass": str(database.directory / "pgpass"),
                "pg_hba": TRUSTED,
                "authentication": {"superuser": {"username": "test"}, "replication": {"username": "test"}},
                "parameters": {"unix_socket_directories": ""},
            },
            "watchdog": {"mode": "off"},  # that of the machine is not ours
        }

    def start(self) -> None:
        """Starts Patroni, which starts PostgreSQL."""
        with (self.database.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.database.directory, env=_environment(), **self.database.identity,
            )  # fmt: skip

    def roles(self) -> dict[str, str]:
        """Who is what, by name, as this Patroni tells; nobody while it does not answer."""
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self._port}/cluster", timeout=5) as answer:
            return {member["name"]: member["role"] for member in json.load(answer)["members"]}
        return {}

    def kill(self) -> None:
        """Ends Patroni and every process of PostgreSQL by SIGKILL, as the loss of the machine would."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(20)
        family = self._postgres()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Patroni has left them to the first process of the machine; a dead one that is not reaped keeps its place.
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 20, f"still there: {family}")

    def _postgres(self) -> list[int]:
        """The processes of PostgreSQL, the first of them first, so that it makes no more."""
        with suppress(OSError):
            first = int((self.database.data / "postmaster.pid").read_text().split()[0])
            return [first, *children_of(first)]
        return []

    def stop(self) -> None:
        """Ends it and deletes its directory, but shows what it said, should the test have failed."""
        self.kill()
        print((self.database.directory / "log").read_text()[-5000:])
        self.database.stop()


class PatroniCluster:
    """A primary and its synchronous standby, and the etcd that both go by."""

    def __init__(self) -> None:
        etcd, patroni = peer("etcd"), peer("patroni")
        self._etcd = Etcd(etcd)
        self.nodes = [Node(name, patroni, self._etcd) for name in ("a", "b")]

    def start(self) -> PatroniCluster:
        self._etcd.start()
        for node in self.nodes:
            node.start()
        self.await_standby()
        return self

    def await_standby(self) -> None:
        """Waits until there is a primary, and a standby that has each commit."""
        until(lambda: sorted(self._roles().values()) == ["leader", "sync_standby"], 90, "no standby")

    def primary(self) -> Node | None:
        """Returns the one that is the primary now."""
        roles = self._roles()
        return next((node for node in self.nodes if roles.get(node.name) == "leader"), None)

    def url(self) -> str:
        """Of a schema of its own, on whichever node takes writes."""
        primary = self.primary()
        assert primary is not None
        (other,) = (node for node in self.nodes if node is not primary)
        return primary.database.fresh_beside(other.database) + "&target_session_attrs=read-write"

    def _roles(self) -> dict[str, str]:
        return next((roles for node in self.nodes if (roles := node.roles())), {})

    def stop(self) -> None:
        """Ends all and deletes their directories."""
        for node in self.nodes:
            node.stop()
        self._etcd.stop()


def _environment() -> dict[str, str]:
    """Nothing of ours: names that begin with PG, ETCD or PATRONI are settings."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
