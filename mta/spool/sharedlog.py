"""A log that processes share: what each appends, all others read; small, and kept small.

    DIRECTORY/N                generation N: lines, appended
    DIRECTORY/N.new            the next generation while it is made

Who appends holds the lock of the newest generation, and waits for nobody: while
it is taken he keeps his lines and comes again.  Who shrinks the log writes a new
generation under the lock of the old one, gives it its name, and removes the old.
Nothing is synced unless it is to be durable: what a power cut takes was knowledge,
not mail.

Source   flock(2); rename(2) puts a whole file in place at once.

Invariants, each tested with several processes that are killed anywhere, in
tests/spool/test_sharedlog.py
    G1   What a reader has read since it was last given all of it ends with what one
         who begins now would read: the lines in their order, each once.
    G2   Half a line, of whoever was killed, is given to no reader as part of another.
    G3   Whatever lies in the directory, no call raises but for what the disk does.
"""

from __future__ import annotations

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.spool.fs import Fs

__all__ = ["SharedLog"]

PIECE = 1 << 20  # octets that one read() takes of a generation
LINE_LIMIT = 1 << 16  # octets of one line: more is none
READ_LIMIT = 1 << 26  # octets of a generation that a shrink takes
TRIES = 4  # to meet the newest generation before it is not the newest any more


class SharedLog:
    """One process's end of a shared log.  OSError is the disk's."""

    def __init__(self, fs: Fs, directory: str, *, durable: bool = False) -> None:
        """Use the log in ``directory``, which is made with the first line.

        ``durable``: a power cut takes nothing that append() has returned for.
        """
        self._durable = durable
        self._fs = fs
        self._directory = directory
        self._fd = -1  # of the generation that is read
        self._offset = 0

    def append(self, lines: bytes) -> bool:
        """Append whole ``lines``; return False if somebody else is at it just now."""
        fd = self._hold()
        if fd < 0:
            return False
        try:
            self._fs.write(fd, b"\n" + lines)  # the line before may be torn
            self._sync(fd)
        finally:
            self._fs.close(fd)
        return True

    def read(self) -> tuple[list[bytes], bool]:
        """Return the lines that are new since the last call, and whether they are all there are.

        All there are come at first, and when the log was shrunk: a reader may have
        missed what others dropped meanwhile.  After an error all there are come again.
        """
        try:
            return self._read()
        except OSError:
            self.close()
            raise

    def _read(self) -> tuple[list[bytes], bool]:
        if self._fd >= 0 and not self._fs.stat(self._fd)[1]:
            self.close()  # it was replaced, and nobody appends to it any more
        whole = self._fd < 0
        if whole and not self._open():
            return [], False
        return self._tail(), whole

    @property
    def size(self) -> int:
        """The size of the generation that is read, in octets."""
        return self._offset

    def shrink(self, fold: Callable[[list[bytes]], list[bytes]]) -> bool:
        """Replace all lines by what ``fold`` makes of them; False if somebody else is at it."""
        fd = self._hold()
        if fd < 0:
            return False
        try:
            number = self._numbers()[-1]
            size = min(self._fs.stat(fd)[0], READ_LIMIT)
            kept = fold(self._fs.read(fd, size, 0).split(b"\n"))
            name = f"{self._directory}/{number + 1}"
            self._fs.unlink(f"{name}.new")  # of one who was killed
            draft = self._fs.create(f"{name}.new")
            try:
                self._fs.write(draft, b"".join([line + b"\n" for line in kept]))
                self._sync(draft)
            finally:
                self._fs.close(draft)
            self._fs.rename(f"{name}.new", name)
            self._sync_names()
            self._fs.unlink(f"{self._directory}/{number}")
        finally:
            self._fs.close(fd)
        return True

    def close(self) -> None:
        """Give the descriptor away; read() begins anew."""
        if self._fd >= 0:
            self._fs.close(self._fd)
        self._fd, self._offset = -1, 0

    def _sync(self, fd: int) -> None:
        if self._durable:
            self._fs.sync(fd)
            self._sync_names()

    def _sync_names(self) -> None:
        if self._durable:
            self._fs.sync_directory(self._directory)
            self._fs.sync_directory("")

    def _numbers(self) -> list[int]:
        return sorted(int(n) for n in self._fs.list(self._directory) if _is_number(n))

    def _open(self) -> bool:
        """Open the newest generation to read; False if there is none."""
        for _ in range(TRIES):
            numbers = self._numbers()
            if not numbers:
                return False
            try:
                self._fd = self._fs.open(f"{self._directory}/{numbers[-1]}")
            except FileNotFoundError:
                continue
            self._offset = 0
            return True
        return False

    def _hold(self) -> int:
        """Return a descriptor of the newest generation, locked; -1 if another has the lock."""
        for _ in range(TRIES):
            number, fd = self._newest()
            if fd < 0:
                continue
            try:
                if not self._fs.lock(fd):
                    self._fs.close(fd)
                    return -1
                numbers = self._numbers()
                if numbers and numbers[-1] == number:
                    for older in numbers[:-1]:  # of one who was killed before he removed it
                        self._fs.unlink(f"{self._directory}/{older}")
                    return fd
            except OSError:
                self._fs.close(fd)  # and with it the lock
                raise
            self._fs.close(fd)
        return -1

    def _newest(self) -> tuple[int, int]:
        """Return the newest generation and a descriptor; make the first if there is none."""
        numbers = self._numbers()
        try:
            if numbers:
                return numbers[-1], self._fs.open(f"{self._directory}/{numbers[-1]}", append=True)
            self._fs.mkdir(self._directory)
            self._fs.give(self._directory)
            return 1, self._fs.create(f"{self._directory}/1")
        except (FileNotFoundError, FileExistsError):
            return 0, -1

    def _tail(self) -> list[bytes]:
        """Return the whole lines behind the offset."""
        lines: list[bytes] = []
        while True:
            data = self._fs.read(self._fd, PIECE, self._offset)
            end = data.rfind(b"\n") + 1
            if not end and len(data) >= LINE_LIMIT:
                end = len(data)  # no line of ours: look for the next
            lines += [line for line in data[:end].split(b"\n") if line]
            self._offset += end
            if not end or len(data) < PIECE:
                return lines


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= 15 and name[0] != "0"
