"""A made-up provider, described by a catalog file of one's own and played by the sandbox's /generic/ paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.factories import CLIENT_SECRET, ApplicationFactory, ProviderConfigFactory

if TYPE_CHECKING:
    from pathlib import Path

    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

SCOPES = ["profile:read", "notes:read", "notes:write"]

FILE = """
id = "plainhub"
name = "Plainhub"
category = "Notes"
tagline = "Notes, as plain as can be"
accent = "green"
issuer = "{issuer}"

[authorize]
url = "{url}/generic/authorize"
scope_separator = ","
iss = "{iss}"
[authorize.errors]
access_denied = "cancelled"

[token]
url = "{url}/generic/token"
client_auth = "basic"
body = "form"
timeout = {timeout}

[refresh]
rotation = "static"

[userinfo]
url = "{url}/generic/userinfo"
[userinfo.fields]
id = "sub"
name = "name"
email = "email"

[revoke]
url = "{url}/generic/revoke"
text = "Plainhub ends the access at once."

[[groups]]
id = "notes"
name = "Notes"
[[groups.scopes]]
name = "profile:read"
label = "The profile."
plain = "see who you are at Plainhub"
required = true
reason = "It tells you which account was connected."
[[groups.scopes]]
name = "notes:read"
label = "Read notes."
plain = "read your notes"
[[groups.scopes]]
name = "notes:write"
label = "Write notes."
plain = "write notes as you"
"""


def made_up_provider(
    sandbox: SandboxThread,
    folder: Path,
    settings: Any,
    *,
    issuer: str = "",
    iss: str = "if-present",
    timeout: int = 20,
    **fields: Any,
) -> ProviderConfig:
    """Put the catalog file into a folder, name it in the settings, and return Plainhub configured."""
    (folder / "plainhub.toml").write_text(
        FILE.format(url=sandbox.url, issuer=issuer, iss=iss, timeout=timeout)
    )
    settings.PROVIDER_CATALOG_DIRS = [folder]
    fields.setdefault("application", ApplicationFactory.create(name="Acme Tasks"))
    config = ProviderConfigFactory.create(provider_id="plainhub", scopes=SCOPES, **fields)
    sandbox.register_client(config.client_id, CLIENT_SECRET, redirect_uris=[config.redirect_uri])
    return config
