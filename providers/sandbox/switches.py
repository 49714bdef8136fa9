"""What can be switched: the places where Atlassian's behaviour varies or is not known.

The defaults are the behaviour with the best evidence.
"""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self


class SwitchError(ValueError):
    """A switch that does not exist, or a value that it cannot take."""


def _choice(default: str | int, *others: str | int) -> Any:
    return field(default=default, metadata={"choices": (default, *others)})


def _at_least(minimum: float, default: float) -> Any:
    return field(default=default, metadata={"minimum": minimum})


@dataclass(frozen=True, slots=True)
class Switches:
    """All switches; times are in seconds unless the name says otherwise."""

    # --- Consent
    clients: str = _choice("any", "registered")
    unknown_scope: str = _choice("error_page", "drop", "accept")
    grant_type: str = _choice("account", "resource")
    consent_error: str = _choice("", "site_admin", "not_shared", "no_site")
    granted_scopes: str = ""
    iss: str = ""
    consent_kills_older_chain: bool = False

    # --- Codes and tokens
    pkce: str = _choice("ignore", "verify")
    code_ttl: float = _at_least(0, 300)
    access_ttl: float = _at_least(0, 3600)
    token_size: int = _at_least(300, 1500)
    token_delay_ms: float = _at_least(0, 0)
    omit_scope_field: bool = False
    no_expires_in: bool = False
    expires_in_value: Any = None
    nonjson_5xx: int = _choice(0, 500, 502, 503, 504)

    # --- Refresh
    strict: bool = False
    rotate: bool = True
    reuse_leeway_seconds: float = _at_least(0, 600)
    reuse_after_leeway: str = _choice("kill_chain", "forbidden")
    refresh_error_style: str = _choice("unauthorized_client", "invalid_grant", "by_cause")
    access_token_dies_after_refresh: float = _at_least(0, 600)
    inactivity_days: float = _at_least(0, 90)
    absolute_lifetime_days: float = _at_least(0, 0)
    omit_refresh_token_on_refresh: bool = False
    revoke_endpoint: int = _choice(404, 200)

    # --- Resources
    duplicate_containers: bool = False
    shuffle_resources: bool = False
    hide_email: bool = False
    expired_token_status: str = _choice("401", "by_path")
    rate_limit: str = _choice("", "json", "html")
    api_quota: int = _at_least(0, 0)
    attachment_bytes: int = _at_least(0, 100_000)

    @property
    def leeway(self) -> float:
        """How many seconds a spent refresh token may be presented again."""
        return 0 if self.strict else self.reuse_leeway_seconds

    @property
    def kills_chain(self) -> bool:
        """Whether a refresh token that comes back too late ends the whole chain."""
        return self.strict or self.reuse_after_leeway == "kill_chain"

    def with_changes(self, changes: dict[str, Any]) -> Self:
        """Return the switches with these values set. Raises SwitchError with a sentence for the caller."""
        known = {item.name: item for item in fields(self)}
        checked = {}
        for name, value in changes.items():
            if name not in known:
                raise SwitchError(
                    f"There is no switch {name!r}. The switches are: {', '.join(sorted(known))}."
                )
            checked[name] = _checked(name, value, known[name].default, known[name].metadata)
        return replace(self, **checked)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _checked(name: str, value: Any, default: Any, metadata: Any) -> Any:
    if name == "expires_in_value":
        return value
    if name == "granted_scopes" and isinstance(value, list):
        return " ".join(str(scope) for scope in value)
    if "choices" in metadata:
        return _chosen(name, value, metadata["choices"])
    if isinstance(default, (bool, str)):
        if type(value) is not type(default):
            raise SwitchError(f"{name} must be {_WORDS[type(default)]}, not {value!r}.")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < metadata["minimum"]:
        raise SwitchError(f"{name} must be a number of at least {metadata['minimum']}, not {value!r}.")
    return int(value) if name in _WHOLE_NUMBERS else value


def _chosen(name: str, value: Any, choices: tuple[str | int, ...]) -> str | int:
    """Return the choice that is meant: 401 and "401" are the same, and so are null, false and "off"."""
    for choice in choices:
        if value == choice or str(value) == str(choice) or (value in (None, False, "off") and not choice):
            return choice
    raise SwitchError(f"{name} cannot be {value!r}. Choose one of: {', '.join(map(repr, choices))}.")


_WORDS: dict[type, str] = {bool: "true or false", str: "a text"}
_WHOLE_NUMBERS = {"token_size", "api_quota", "attachment_bytes"}
