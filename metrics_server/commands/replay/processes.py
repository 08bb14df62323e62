"""Lines are read in several processes, and come back in the order of the files.

What depends on what came before, which is nearly all of pairing, is left to the one process that hands them out. So
nothing has to be merged, and the number of processes is of no consequence to any result.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import TypeAlias

from metrics_server.commands.replay.location import BadFile
from metrics_server.commands.replay.pairs import PairReader, Piece
from metrics_server.commands.replay.source import Block

MakeReader: TypeAlias = "Callable[[], PairReader]"
Read: TypeAlias = "tuple[str, list[Piece]]"  # the name of a file, and what some of its lines are


def read(blocks: Iterable[Block], make_reader: MakeReader, processes: int) -> Generator[Read, None, None]:
    """Yields what the lines of blocks are, block by block in their order; to be closed.

    Args:
        blocks: read ahead by one for each process, and so many are in memory at a time.
        make_reader: is called in each process; it can be pickled.
        processes: that read beside this one, which then only hands out; of 1 it reads itself.

    Raises:
        BadFile: a process has ended.
    """
    if processes == 1:
        reader = make_reader()
        yield from ((block.file, list(reader.pieces(block.lines()))) for block in blocks)
        return
    workers = [_Worker(make_reader) for _ in range(processes)]
    try:
        yield from _in_turn(blocks, workers)
    finally:
        for worker in workers:
            worker.end()


def _in_turn(blocks: Iterable[Block], workers: Iterable[_Worker]) -> Iterator[Read]:
    """Gives a block to each worker in turn. None is given one while it has another, so neither side waits for ever for
    the other to make room in the pipe.
    """
    idle, busy = deque(workers), deque[tuple[_Worker, str]]()
    for block in blocks:
        if idle:
            worker, found = idle.popleft(), None
        else:
            worker, file = busy.popleft()
            found = file, worker.receive()
        worker.send(block)
        busy.append((worker, block.file))
        if found:
            yield found
    for worker, file in busy:
        yield file, worker.receive()


class _Worker:
    """A process that reads blocks. It is started with its first one."""

    def __init__(self, make_reader: MakeReader) -> None:
        self._make_reader = make_reader
        self._connection: Connection | None = None

    def send(self, block: Block) -> None:
        if self._connection is None:
            self._start()
        assert self._connection is not None
        try:
            self._connection.send(block)
        except OSError as error:
            raise self._has_ended() from error

    def receive(self) -> list[Piece]:
        assert self._connection is not None
        try:
            found: list[Piece] | Exception = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._has_ended() from error
        if isinstance(found, Exception):
            raise found
        return found

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._process.terminate()
            self._process.join()

    def _start(self) -> None:
        # Not forked: pyarrow may have threads by now, whose locks nobody would release in the copy.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._make_reader), daemon=True)
        # Ctrl-C is for the process that hands out: it ends the others. They inherit that it is blocked, unless starting
        # the tracker, as the first of them else does, lets it through again.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def _has_ended(self) -> BadFile:
        self._process.join(1)
        return BadFile(
            f"a process that reads lines has ended with status {self._process.exitcode}, as for want of memory; "
            "--processes 1 needs no other one"
        )


def _serve(connection: Connection, make_reader: MakeReader) -> None:
    """Reads blocks until nobody sends any."""
    reader = make_reader()
    while True:
        try:
            block: Block = connection.recv()
        except EOFError:
            return
        try:
            found: list[Piece] | Exception = list(reader.pieces(block.lines()))
        except Exception as error:  # noqa: BLE001 - it is raised where the block came from
            found = error
        connection.send(found)
