"""The demo's apps: one for each application of the demo, so that what people do to one leaves the others alone."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DemoApp:
    """A client that every sandbox knows from the start. It opens nothing anywhere else."""

    name: str
    client_id: str
    client_secret: str = "ATOAsandbox-client-secret-for-the-demo"  # noqa: S105 - public, as all here


TASKS = DemoApp("Acme Tasks", "SandboxClientIdForTheDemo0000000")
WIKI = DemoApp("Acme Wiki", "SandboxClientIdForAcmeWiki000000")
ISSUES = DemoApp("Acme Issues", "SandboxClientIdForAcmeIssues0000")
DEMO_APPS = (TASKS, WIKI, ISSUES)
