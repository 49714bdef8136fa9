"""Statement C7: with a wrong or missing key no process starts, and nothing is changed."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from portal.keycheck import check_keys
from portal.models import KeyCheck
from tests.factories import GrantFactory
from tests.processes import ROOT
from tests.security.sealed import OLD, dump_database, environment, new_key

pytestmark = pytest.mark.django_db

STARTS = {
    "web": ["-m", "granian", "--interface", "wsgi", "--port", "0", "portal.wsgi:application"],
    "wsgi": ["-c", "import portal.wsgi"],
    "worker": ["-m", "celery", "-A", "portal", "worker", "--concurrency", "1"],
    "beat": ["-m", "celery", "-A", "portal", "beat", "--scheduler", "celery.beat:Scheduler"],
}


CHANGED = (new_key(OLD), f"The key '{OLD}' in ENCRYPTION_KEYS is not the one")
MISSING = (new_key("other"), f"with the key '{OLD}', which ENCRYPTION_KEYS does not hold")


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("what", "wrong"), [("web", CHANGED), ("wsgi", MISSING), ("worker", CHANGED), ("beat", MISSING)]
)
def test_a_process_with_the_wrong_key_refuses_to_start_and_changes_nothing_c7(cast, what, wrong):
    keys, said = wrong
    GrantFactory()
    check_keys()
    before = hashlib.sha256(dump_database()).hexdigest()

    ended = subprocess.run(
        [sys.executable, *STARTS[what]],
        cwd=ROOT,
        env=environment(keys),
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode != 0, ended.stdout
    output = (ended.stdout + ended.stderr).decode()
    assert "Refusing to start. " in output
    assert said in output, output
    assert keys.partition(":")[2] not in output
    assert hashlib.sha256(dump_database()).hexdigest() == before


def test_the_right_key_is_noted_once_c7(db):
    check_keys()
    check_keys()

    assert list(KeyCheck.objects.values_list("pk", flat=True)) == [OLD]
