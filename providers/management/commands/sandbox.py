"""Run the sandbox: our own Atlassian, for demos, tests and benchmarks."""

import ipaddress
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.sandbox import serve
from providers.sandbox.switches import Switches


class Command(BaseCommand):
    """Parse the options and hand over to the server, which knows nothing of Django."""

    help = "Run a stand-in for Atlassian: consent, tokens, Jira and Confluence. See docs/sandbox.md."
    # It needs neither our database nor our settings to be right.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8001)
        parser.add_argument("--access-ttl", type=float, help="life of an access token in seconds (3600)")
        parser.add_argument("--control-token", default="", help="ask for this token on /_sandbox/… calls")
        parser.add_argument("--state", type=Path, help="keep grants in this file across restarts")
        parser.add_argument(
            "--set", action="append", default=[], metavar="SWITCH=VALUE", help="set a switch; may be repeated"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host = options["host"]
        if not options["control_token"] and not _is_loopback(host):
            raise CommandError(
                f"Others can reach {host}. Choose a control token with --control-token, or listen on 127.0.0.1."
            )
        changes: dict[str, Any] = dict(_switch(text) for text in options["set"])
        if options["access_ttl"] is not None:
            changes["access_ttl"] = options["access_ttl"]
        try:
            switches = Switches().with_changes(changes)
            serve(
                host,
                options["port"],
                switches,
                control_token=options["control_token"],
                state_file=options["state"],
                on_ready=lambda: self._say_ready(host, options["port"]),
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"The sandbox cannot listen on {host}:{options['port']}: {error}") from error

    def _say_ready(self, host: str, port: int) -> None:
        self.stdout.write(f"Sandbox at http://{host}:{port}/ (this is not Atlassian)")
        self.stdout.flush()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _switch(text: str) -> tuple[str, Any]:
    """Read name=value; what looks like a number or true/false is one."""
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--set needs SWITCH=VALUE, not {text!r}.")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
