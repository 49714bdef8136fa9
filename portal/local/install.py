"""Make .venv and install the pinned requirements, once.

    python3 portal/local/install.py requirements.txt

Runs before anything is installed: on the standard library alone, and Pythons down to 3.6 must be able to read it,
so that they can say that they are too old.
"""

import fcntl
import hashlib
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NoReturn

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
# The versions of everything that the requirements need in their turn.
CONSTRAINTS = "constraints.txt"
# At least one line of progress in this many seconds.
SAY_EVERY_S = 5


def main() -> None:
    find_new_enough_python()
    names = sys.argv[1:] or ["requirements.txt"]
    with take_lock():
        if not is_venv_usable():
            make_venv()
        missing = [name for name in names if read(stamp(name)) != fingerprint(name)]
        if missing:
            # A later list includes the earlier ones, so that pip has to think only once.
            install(missing[-1])
        for name in missing:
            stamp(name).write_text(fingerprint(name))


def fail(message: str) -> NoReturn:
    sys.stderr.write(message + "\n")
    sys.exit(1)


def find_new_enough_python() -> None:
    """Go on under a newer Python if this one is too old and another is there."""
    if sys.version_info >= OLDEST:
        return
    for minor in range(15, OLDEST[1] - 1, -1):
        newer = shutil.which("python3.{}".format(minor))
        if newer:
            os.execv(newer, [newer, str(Path(__file__).resolve()), *sys.argv[1:]])
    fail(
        "The portal needs Python 3.11 or newer; python3 here is {}.{}. Install a newer one "
        "(https://www.python.org/downloads/), or say where it is: make run PYTHON=/path/to/python3.12".format(
            *sys.version_info[:2]
        )
    )


def take_lock() -> "IO[str]":
    """Wait for another `make` that is installing into the same folder."""
    try:
        lock = (ROOT / ".venv.lock").open("w")
    except OSError as error:
        fail("Cannot write to {}: {}. Clone the project into a folder of yours.".format(ROOT, error.strerror))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("Another make is installing into .venv; waiting for it ...", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def is_venv_usable() -> bool:
    if not VENV_PYTHON.exists():
        return False
    test = "import sys, pip; sys.exit(sys.version_info < {!r})".format(OLDEST)
    command = [str(VENV_PYTHON), "-c", test]
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def make_venv() -> None:
    version = "{}.{}".format(*sys.version_info[:2])
    try:
        # Debian leaves these out of python3.
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail(
            "Python {0} here cannot make virtual environments: its venv module is missing. "
            "On Debian or Ubuntu: apt install python{0}-venv".format(version)
        )
    print("Making .venv with Python {} ...".format(version), flush=True)
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        fail("Could not make .venv:\n" + done.stdout.decode(errors="replace"))


def install(name: str) -> None:
    """Run pip, and say in plain words how far it is."""
    print("Installing what {} lists into .venv (once; about half a minute) ...".format(name), flush=True)
    start = last_said = time.time()
    # Byte code is made when a module is first used: cheaper than compiling thousands of files now.
    command = [
        str(VENV_PYTHON),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
    ]
    command += ["--progress-bar", "off", "--prefer-binary", "-r", name]
    if (ROOT / CONSTRAINTS).exists():
        command += ["-c", CONSTRAINTS]
    progress = Progress(start)
    log_path = VENV / "pip.log"
    with log_path.open("wb") as log:
        # Unbuffered, so that select tells of every line.
        pip = subprocess.Popen(
            command,
            cwd=str(ROOT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        assert pip.stdout is not None
        while True:
            # pip says nothing while it unpacks, so it is not waited for.
            is_heard = bool(select.select([pip.stdout], [], [], 0.5)[0])
            line = pip.stdout.readline() if is_heard else b""
            if is_heard and not line:
                break
            log.write(line)
            if progress.hear(line) or time.time() - last_said > SAY_EVERY_S:
                last_said = time.time()
                print("  {:3.0f} s: {}".format(last_said - start, progress.words()), flush=True)
    if pip.wait():
        lines = read(log_path).splitlines()
        hint = ""
        if any("NewConnectionError" in line or "name resolution" in line for line in lines):
            hint = "\nThe package index was not reached: is this machine online, or is PIP_INDEX_URL needed?"
        fail("Installing failed; {} ends with:\n{}{}".format(log_path, "\n".join(lines[-15:]), hint))
    what = "{} packages installed".format(progress.total) if progress.total else "nothing was missing"
    print("  {:3.0f} s: {}".format(time.time() - start, what), flush=True)


class Progress:
    """How far pip is, by what it says, and by what it has put into .venv since the start."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.fetched = 0
        self.total = 0

    def hear(self, line: bytes) -> bool:
        """Take a line of pip's; return whether it begins to unpack."""
        # "Collecting" is from an index, "Processing" from a folder of this machine.
        self.fetched += line.startswith((b"Collecting ", b"Processing "))
        if not line.startswith(b"Installing collected packages"):
            return False
        self.total = line.count(b",") + 1
        return True

    def words(self) -> str:
        if not self.total:
            return "{} packages fetched so far".format(self.fetched)
        done = self.unpacked()
        if not done:
            return "{} packages fetched, all there are; unpacking them".format(self.total)
        return "{} of {} packages unpacked".format(done, self.total)

    def unpacked(self) -> int:
        """Count the packages whose folder of facts, which pip writes last, is newer than the start."""
        facts = (VENV / "lib").glob("python*/site-packages/*.dist-info/RECORD")
        return sum(path.stat().st_mtime >= self.start for path in facts)


def stamp(name: str) -> Path:
    return VENV / (name + ".installed")


def fingerprint(name: str) -> str:
    """Return what decides whether the installation is up to date: the lists, and the Python."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for part in sorted({name, "requirements.txt", CONSTRAINTS}):
        digest.update((part + "\0" + read(ROOT / part) + "\0").encode())
    return digest.hexdigest()


def read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
