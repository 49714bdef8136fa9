"""Run a management command with the settings of `make run`, beside it or on its own.

python -m portal.local.manage shell
"""

from __future__ import annotations

import os
import subprocess
import sys

from portal.embedded import EmbeddedServers
from portal.local.environment import ROOT, environment, read_place
from portal.local.errors import InUseError, LocalError

# The sandbox knows nothing of our database.
WITHOUT_SERVERS = {"sandbox"}


def main() -> int:
    os.umask(0o077)
    try:
        place = read_place(os.environ)
        given = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}
        servers = EmbeddedServers(
            place.data, has_postgres=not given["DATABASE_URL"], has_valkey=not given["REDIS_URL"]
        )
        needs_servers = not WITHOUT_SERVERS & set(sys.argv[1:2])
        if needs_servers and not (place.data / "secrets.env").exists():
            raise LocalError(f"There is no data in {place.data} yet: start `make run` once.")
        place.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not all(given.values()) and needs_servers:
            try:
                servers.start()
            except InUseError:
                # `make run` has started them: use its own.
                servers.find()
        env = environment(
            place,
            os.environ,
            database_url=given["DATABASE_URL"] or servers.database_url,
            redis_url=given["REDIS_URL"] or servers.redis_url,
        )
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        return subprocess.call([sys.executable, "manage.py", *sys.argv[1:]], cwd=ROOT, env=env)
    except KeyboardInterrupt:
        return 130
    finally:
        servers.stop()


if __name__ == "__main__":
    sys.exit(main())
