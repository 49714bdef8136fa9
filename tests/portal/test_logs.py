"""Log lines: for people and for machines, without secrets (G6)."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from portal.logs import JsonLineFormatter, LineFormatter, current_request_id, current_task_id, make_formatter
from tests.factories import CANARY


def logged(message: str, *args: object, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("portal.test").makeRecord(
        "portal.test", logging.INFO, __file__, 1, message, args, None, extra=extra
    )


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonLineFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)


def test_a_line_of_json_has_time_level_logger_message_and_what_was_added():
    found = as_json(logged("%d grants", 3, ms=4.2, view="home"))

    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "INFO",
        "logger": "portal.test",
        "message": "3 grants",
        "ms": 4.2,
        "view": "home",
    }


@pytest.mark.parametrize(
    ("variable", "name"), [(current_request_id, "request_id"), (current_task_id, "task_id")]
)
def test_a_line_names_its_request_or_task(variable, name):
    token = variable.set("3f2a")
    try:
        assert as_json(logged("hello"))[name] == "3f2a"
        assert "[3f2a] hello" in LineFormatter().format(logged("hello"))
    finally:
        variable.reset(token)


@pytest.mark.parametrize(
    "text",
    [
        f"refresh_token={CANARY}",
        f"{{'access_token': '{CANARY}'}}",
        f'{{"client_secret": "{CANARY}"}}',
        f"Authorization: Bearer {CANARY}",
        f"GET /oauth/callback/acme/atlassian?code={CANARY}&state={CANARY}",
        f"/connect/{CANARY}-and-so-on/",
        f"/connect/manage/{CANARY}-and-so-on/",
        f"/connect/reconnect/{CANARY}-and-so-on/",
    ],
)
def test_g6_no_secret_is_in_a_line_whatever_its_form_or_place(text):
    fields = {"path": text, "token": CANARY, "answer": {"access_token": CANARY}, "note": ["code", CANARY]}

    for form in (JsonLineFormatter(), LineFormatter()):
        assert CANARY not in form.format(logged(text))
        assert CANARY not in form.format(logged("%s", text, **fields))


@pytest.mark.parametrize("form", [JsonLineFormatter(), LineFormatter()], ids=["json", "text"])
def test_g6_a_traceback_holds_no_secret_either(form):
    try:
        raise ValueError(f"token={CANARY}")
    except ValueError:
        record = logged("it broke")
        record.exc_info = sys.exc_info()

    line = form.format(record)

    assert "ValueError" in line
    assert CANARY not in line


def test_g6_a_line_break_in_what_was_sent_begins_no_line_of_its_own():
    sent = 'x\n{"level": "CRITICAL", "message": "made up"}'

    assert len(LineFormatter().format(logged("%s", sent)).splitlines()) == 1
    assert as_json(logged("%s", sent))["message"] == sent


def test_the_web_servers_own_process_logs_json_unless_text_is_asked_for(monkeypatch):
    monkeypatch.delenv("LOG_FORMAT", raising=False)
    assert isinstance(make_formatter(), JsonLineFormatter)

    monkeypatch.setenv("LOG_FORMAT", "text")
    assert isinstance(make_formatter(), LineFormatter)


def test_the_access_log_has_the_path_the_page_and_the_id_and_no_query_string_g6(client, caplog, db):
    with caplog.at_level("INFO", logger="portal.access"):
        response = client.get(f"/accounts/login/?next=/&hint={CANARY}")
        client.get("/healthz")

    (record,) = [record for record in caplog.records if record.name == "portal.access"]
    found = as_json(record)
    assert found["path"] == "/accounts/login/"
    assert (found["view"], found["status"], found["client"]) == ("account_login", 200, "127.0.0.1")
    assert CANARY not in json.dumps(found)
    assert response["X-Request-Id"]
