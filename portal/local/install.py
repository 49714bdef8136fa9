"""Make .venv and install the pinned requirements, once.

    python3 portal/local/install.py requirements.txt

Runs before anything is installed: on the standard library alone, and Pythons down to 3.6 must be able to read it,
so that they can say that they are too old.
"""

import fcntl
import hashlib
import os
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
    found = 0
    what = "packages so far"
    log_path = VENV / "pip.log"
    with log_path.open("wb") as log:
        pip = subprocess.Popen(
            command, cwd=str(ROOT), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert pip.stdout is not None
        for line in pip.stdout:
            log.write(line)
            found += line.startswith(b"Collecting ")
            is_news = line.startswith(b"Installing collected packages")
            if is_news:
                what = "packages are here; unpacking them"
            if is_news or time.time() - last_said > SAY_EVERY_S:
                last_said = time.time()
                print("  {:3.0f} s: {} {}".format(last_said - start, found, what), flush=True)
    if pip.wait():
        lines = read(log_path).splitlines()
        hint = ""
        if any("NewConnectionError" in line or "name resolution" in line for line in lines):
            hint = "\nThe package index was not reached: is this machine online, or is PIP_INDEX_URL needed?"
        fail("Installing failed; {} ends with:\n{}{}".format(log_path, "\n".join(lines[-15:]), hint))
    print("  {:3.0f} s: installed".format(time.time() - start), flush=True)


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
