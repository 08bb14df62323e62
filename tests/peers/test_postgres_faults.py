"""Bad days of a database and of the servers that share it: nothing acknowledged is lost, nothing counts twice."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest

from tests.support.bad_day import bad_day
from tests.support.live_server import send
from tests.support.postgres import FAST, Postgres
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until


def long(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.bad_day(pytest.mark.long(test))


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    server = Postgres().create()
    yield server
    server.kill_all()
    server.stop()


def test_the_database_is_killed_and_comes_back(tmp_path: Path, postgres: Postgres) -> None:
    """SIGKILL of every process of PostgreSQL under load: 503 with Retry-After until it is back, then all goes on."""
    with bad_day(tmp_path, postgres.fresh()) as day:
        postgres.kill_all()
        day.turn_away()
        postgres.start()
        day.go_on()
        day.settle()


def test_the_database_takes_no_writes_for_a_while(tmp_path: Path, postgres: Postgres) -> None:
    """A database that is set to read only: 503 until it takes writes again."""
    with bad_day(tmp_path, postgres.fresh()) as day:
        for setting in ("on", "off"):
            postgres.execute(f"ALTER SYSTEM SET default_transaction_read_only = {setting}")
            postgres.execute("SELECT pg_reload_conf()")
            if setting == "on":
                day.turn_away()
        day.go_on()
        day.settle()


@long
def test_the_database_hangs(tmp_path: Path, postgres: Postgres) -> None:
    """Every process of PostgreSQL is stopped for 20 seconds, and goes on where it was."""
    history = "/v1/models/shop/fraud-0/default/tree?from=1700000000&step=1d"
    with bad_day(tmp_path, postgres.fresh()) as day:
        port = day.servers.ports()[0]
        assert send(port, None, history).status == 200
        postgres.signal_all(signal.SIGSTOP)
        stopped_at = time.monotonic()
        assert send(port, None, "/v1/models").status == 200
        assert send(port, None, history).status == 503  # within the limit of `send`
        day.turn_away()
        time.sleep(max(0.0, stopped_at + 20 - time.monotonic()))  # how long it hangs is what is tested
        postgres.signal_all(signal.SIGCONT)
        day.go_on()
        day.settle()


# A standby


class Pair:
    """A primary and a synchronous standby, and the URL of both."""

    def __init__(self, primary: Postgres) -> None:
        self.primary, self.standby = primary, primary.standby()

    @property
    def url(self) -> str:
        """Of a schema of its own; the old primary is named first."""
        return self.primary.fresh_beside(self.standby)

    def fail_over(self) -> None:
        self.primary.kill_all()
        self.standby.promote()


@pytest.fixture
def pair(postgres: Postgres) -> Iterator[Pair]:
    both = Pair(postgres)
    yield both
    both.standby.kill_all()
    both.standby.stop()


@long
def test_a_synchronous_standby_takes_over(tmp_path: Path, pair: Pair) -> None:
    """The primary is killed, the standby promoted: what was acknowledged is there, and the servers find it."""
    with bad_day(tmp_path, pair.url) as day:
        pair.fail_over()
        day.go_on()
        day.settle()


@long
@pytest.mark.parametrize("hung_seconds", [4, 14])
def test_a_standby_that_hung_takes_over(tmp_path: Path, pair: Pair, hung_seconds: float) -> None:
    """While the standby hangs nothing is acknowledged; when the primary dies in that state nothing is lost either."""
    with bad_day(tmp_path, pair.url) as day:
        pair.standby.signal_all(signal.SIGSTOP)
        time.sleep(1)  # what was confirmed before is answered
        already = day.acknowledged
        time.sleep(hung_seconds)  # how long it hangs is what is tested
        assert day.acknowledged == already
        pair.primary.kill_all()
        pair.standby.signal_all(signal.SIGCONT)
        pair.standby.promote()
        day.go_on()
        day.settle()


@long
def test_a_cancelled_wait_for_the_standby_is_no_acknowledgement(tmp_path: Path, pair: Pair) -> None:
    """PostgreSQL reports a commit as done, with a warning, when the wait for the standby is cancelled: that is not
    answered 200, and when the primary is lost with it, the event counts once all the same."""
    with bad_day(tmp_path, pair.url) as day:
        pair.standby.kill_all()
        time.sleep(1)  # what was confirmed before is answered
        already = day.acknowledged
        cancelled = 0
        for _ in range(40):
            waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            cancelled += len(pair.primary.execute(waiting))
            time.sleep(0.1)
        assert cancelled > 4, "nothing waited"
        assert day.acknowledged == already
        pair.primary.kill_all()
        pair.standby.start()
        pair.standby.promote()
        day.go_on()
        # PostgreSQL shows such a commit to others, so they may have shown it before it was lost.
        day.settle(counters_may_fall=True)


@long
def test_the_old_primary_comes_back(tmp_path: Path, pair: Pair) -> None:
    """Servers that are led back to the old primary, which nobody has fenced, do not count anything there; once they
    find the new one again, all goes on."""
    with bad_day(tmp_path, pair.url) as day:
        pair.fail_over()
        day.go_on()
        pair.primary.start()
        ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'feedback%'"
        pair.standby.execute(ours)
        day.go_on()
        day.settle()


# A database that can do little


@pytest.fixture
def small_disk(postgres: Postgres) -> Iterator[Path]:
    """A tablespace of 8 MiB."""
    directory = postgres.directory / "small"
    directory.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "small", str(directory)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        if postgres.user:
            shutil.chown(directory, postgres.user)
        postgres.execute(f"CREATE TABLESPACE small LOCATION '{directory}'")
        yield directory
    finally:
        postgres.kill_all()
        subprocess.run(["umount", str(directory)], check=True)


@long
def test_the_disk_is_full(tmp_path: Path, postgres: Postgres, small_disk: Path) -> None:
    """A disk of the database without room: 503 until there is some."""
    with bad_day(tmp_path, postgres.fresh() + "%20-cdefault_tablespace%3Dsmall") as day:
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        day.turn_away()
        ballast.unlink()
        day.go_on()
        day.settle()


@long
def test_there_are_no_connections_left(tmp_path: Path) -> None:
    """Servers that lose their connections and get no new ones answer 503 until they do."""
    postgres = Postgres({**FAST, "max_connections": "10"}).create()
    try:
        with bad_day(tmp_path, postgres.fresh()) as day, ExitStack() as taken:
            deadline = time.monotonic() + 10
            mine = taken.enter_context(psycopg.connect(postgres.url(), autocommit=True))
            while time.monotonic() < deadline:
                mine.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> ''")
                with suppress(psycopg.Error):
                    taken.enter_context(psycopg.connect(postgres.url()))
            assert day.refused
            assert day.watch.ready[503]
            taken.close()
            day.go_on()
            day.settle()
    finally:
        postgres.kill_all()
        postgres.stop()


@long
@pytest.mark.parametrize("seconds", [0.4, 12])
def test_the_database_is_slow(tmp_path: Path, postgres: Postgres, seconds: float) -> None:
    """A database that takes half a second for every commit, or longer than a server waits: each event counts once."""
    url = postgres.fresh()
    with bad_day(tmp_path, url) as day, psycopg.connect(url, autocommit=True) as database:
        database.execute(
            f"""CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep({seconds}); RETURN new; END';
            CREATE TRIGGER slow BEFORE INSERT ON deltas FOR EACH ROW EXECUTE FUNCTION slow()""".encode()
        )
        time.sleep(30 if seconds > 1 else 5)  # how long it is slow is what is tested
        database.execute("DROP TRIGGER slow ON deltas")
        day.go_on()
        day.settle()


# A server that sleeps, a clock that is wrong, a network that is cut


@long
@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_server_sleeps_and_wakes(tmp_path: Path, postgres: Postgres, *, is_given_up: bool) -> None:
    """A server that is stopped in the midst of its work, for so long that its place may be gone, does no harm when it
    wakes, and takes part again."""
    url = postgres.fresh()
    with bad_day(tmp_path, url) as day:
        server = day.servers.servers[0]
        day.watch.end()
        server.process.send_signal(signal.SIGSTOP)
        if is_given_up:
            time.sleep(1)  # of a commit that was under way
            with psycopg.connect(url) as database:
                database.execute("UPDATE writers SET session = -1")  # the other one comes back at once
        time.sleep(12)  # how long it sleeps is what is tested
        server.process.send_signal(signal.SIGCONT)
        day.go_on()
        day.settle()
    with psycopg.connect(url) as database:
        places = database.execute("SELECT count(*) FROM writers WHERE session < 0").fetchone()
    assert places == ((2 if is_given_up else 0),)


AHEAD = """
import runpy, sys, time
clock = time.time
time.time = lambda: clock() + {seconds}
sys.argv = ["metrics_server", *sys.argv[1:]]
runpy.run_module("metrics_server", run_name="__main__")
"""


@long
@pytest.mark.parametrize("seconds", [900, -900])
def test_a_clock_is_a_quarter_of_an_hour_off(tmp_path: Path, postgres: Postgres, seconds: int) -> None:
    """A server whose clock is 15 minutes ahead or behind shows and counts what the others do, over some minutes."""
    with bad_day(tmp_path, postgres.fresh(), 1) as day:
        day.servers.start(program=(sys.executable, "-c", AHEAD.format(seconds=seconds)))
        until(lambda: time.time() % 60 < 1, 61, "a minute begins")
        day.go_on()
        day.settle()


@long
@pytest.mark.parametrize("seconds", [3, 25])
def test_the_network_is_cut(tmp_path: Path, postgres: Postgres, seconds: float) -> None:
    """One server loses its way to the database for a while, without a word: the other goes on, and it comes back."""
    proxy, url = TcpProxy(postgres.port), postgres.fresh()
    with bad_day(tmp_path, url, 1) as day:
        day.servers.start(store=url.replace(f":{postgres.port}/", f":{proxy.port}/"))
        day.go_on()
        proxy.cut()
        time.sleep(seconds)  # how long it is cut is what is tested
        if seconds > 20:
            day.turn_away()  # a commit is asked after for 15 seconds, and attempts to connect take theirs
        proxy.restore()
        day.go_on()
        day.settle()
    proxy.close()
