"""Read catalog files into `ProviderSpec`, and say clearly what is wrong with one.

A provider is data: one TOML file in providers/catalog/, or in a folder that PROVIDER_CATALOG_DIRS names.
"""

from __future__ import annotations

import functools
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from providers.sites import SITE_READERS
from providers.spec import (
    BodyFormat,
    ClientAuth,
    Endpoint,
    ErrorRule,
    Outcome,
    Pkce,
    ProfileFields,
    ProviderSpec,
    RefreshPolicy,
    Rotation,
    Scope,
    ScopeGroup,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BUILT_IN = Path(__file__).parent / "catalog"


class CatalogError(Exception):
    """A catalog file is wrong; the message names file and field and says what is expected."""


class UnknownProviderError(KeyError):
    """There is no catalog file for a provider id."""

    def __str__(self) -> str:
        return f"There is no provider '{self.args[0]}' in the catalog."


class Catalog(dict[str, ProviderSpec]):
    """All providers by id."""

    def __missing__(self, provider_id: str) -> ProviderSpec:
        raise UnknownProviderError(provider_id)


def catalog() -> Catalog:
    """Return all providers by id, in the sandbox's place where SANDBOX_URL is set. Raises CatalogError."""
    return _catalog(tuple(settings.PROVIDER_CATALOG_DIRS), settings.SANDBOX_URL, settings.EGRESS_PLAIN_HTTP)


@functools.cache
def _catalog(folders: tuple[Path, ...], sandbox_url: str, plain_http: bool) -> Catalog:
    specs = Catalog()
    for file in _files([BUILT_IN, *folders]):
        spec = load(file, plain_http=plain_http)
        if spec.id in specs:
            raise CatalogError(f"{file}: the id '{spec.id}' is taken by another catalog file; give it an id of its own.")
        specs[spec.id] = in_sandbox(spec, sandbox_url) if sandbox_url and spec.has_sandbox else spec
    return specs


def _files(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise CatalogError(f"PROVIDER_CATALOG_DIRS names {folder}, which is not a folder.")
        yield from sorted(folder.glob("*.toml"))


def in_sandbox(spec: ProviderSpec, sandbox_url: str) -> ProviderSpec:
    """Return the same provider with every address on the sandbox, path kept."""
    import dataclasses

    base = urlsplit(sandbox_url)

    def moved(url: str) -> str:
        return urlunsplit((base.scheme, base.netloc, urlsplit(url).path, "", "")) if url else ""

    def moved_endpoint(endpoint: Endpoint | None) -> Endpoint | None:
        return dataclasses.replace(endpoint, url=moved(endpoint.url)) if endpoint else None

    return dataclasses.replace(
        spec,
        authorize_url=moved(spec.authorize_url),
        token_url=moved(spec.token_url),
        refresh_url=moved(spec.refresh_url),
        userinfo=moved_endpoint(spec.userinfo),
        sites=moved_endpoint(spec.sites),
        revoke=moved_endpoint(spec.revoke),
        revoke_page=moved(spec.revoke_page),
    )


def load(file: Path, *, plain_http: bool = False) -> ProviderSpec:
    """Read one catalog file. Raises CatalogError naming the file, the field, and what is expected."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{file}: not valid TOML: {error}") from None
    reader = _Reader(file, table, plain_http=plain_http)
    spec = _spec(reader)
    reader.finish()
    return spec


class _Reader:
    """Takes fields out of a table, checks them, and complains of what is left over."""

    def __init__(self, file: Path, table: Mapping[str, Any], where: str = "", *, plain_http: bool) -> None:
        self.file, self.table, self.where, self.plain_http = file, dict(table), where, plain_http
        self._children: list[_Reader] = []

    def fail(self, name: str, problem: str) -> CatalogError:
        return CatalogError(f"{self.file}: {self.where}{name} {problem}")

    def take(self, name: str, kind: type, default: Any = ...) -> Any:
        if name not in self.table:
            if default is ...:
                raise self.fail(name, "is missing.")
            return default
        value = self.table.pop(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.fail(name, f"must be of type {kind.__name__}, it is {value!r}.")
        return value

    def text(self, name: str, default: Any = ...) -> str:
        return str(self.take(name, str, default)).strip()

    def seconds(self, name: str, default: Any = ...) -> Any:
        value = self.take(name, int, default)
        if isinstance(value, int):
            if value < 0:
                raise self.fail(name, "must not be negative (it is in seconds).")
            return timedelta(seconds=value)
        return value

    def choice(self, name: str, options: Any, default: Any = ...) -> Any:
        value = self.text(name, default)
        try:
            return options(value)
        except ValueError:
            known = ", ".join(f"'{option.value}'" for option in options)
            raise self.fail(name, f"is '{value}', but must be one of {known}.") from None

    def url(self, name: str, default: Any = ...) -> str:
        value = self.text(name, default)
        if not value:
            return ""
        parts = urlsplit(value)
        allowed = {"https", "http"} if self.plain_http else {"https"}
        if parts.scheme not in allowed or not parts.hostname or parts.username or parts.fragment:
            raise self.fail(name, f"must be an https address, it is '{value}'.")
        return value

    def texts(self, name: str) -> dict[str, str]:
        table = self.take(name, dict, {})
        for key, value in table.items():
            if not isinstance(value, str):
                raise self.fail(f"{name}.{key}", "must be text.")
        return dict(table)

    def child(self, name: str) -> _Reader | None:
        table = self.take(name, dict, None)
        return None if table is None else self._nest(table, f"{self.where}{name}.")

    def children(self, name: str) -> list[_Reader]:
        return [
            self._nest(table, f"{self.where}{name}[{number}].")
            for number, table in enumerate(self.take(name, list, []), 1)
        ]

    def _nest(self, table: Any, where: str) -> _Reader:
        if not isinstance(table, dict):
            raise self.fail(where.rstrip("."), "must be a table.")
        reader = _Reader(self.file, table, where, plain_http=self.plain_http)
        self._children.append(reader)
        return reader

    def finish(self) -> None:
        if self.table:
            raise self.fail(next(iter(self.table)), "is not a field that the catalog knows; is it misspelt?")
        for child in self._children:
            child.finish()


def _spec(top: _Reader) -> ProviderSpec:
    provider_id = top.text("id")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,49}", provider_id):
        raise top.fail("id", "must be small letters, digits and dashes, at most 50.")
    token = top.child("token") or _missing(top, "token")
    authorize = top.child("authorize") or _missing(top, "authorize")
    sites = top.child("sites")
    sites_reader = sites.text("reader") if sites else ""
    if sites and sites_reader not in SITE_READERS:
        raise sites.fail("reader", f"is '{sites_reader}', but must be one of {', '.join(sorted(SITE_READERS))}.")
    userinfo = top.child("userinfo")
    profile = userinfo.child("fields") if userinfo else None
    revoke = top.child("revoke")
    form = top.child("form")
    return ProviderSpec(
        id=provider_id,
        name=top.text("name"),
        category=top.text("category"),
        tagline=top.text("tagline"),
        accent=_accent(top),
        source=top.text("source", ""),
        checked_on=top.text("checked_on", ""),
        has_sandbox=top.take("has_sandbox", bool, False),
        issuer=top.text("issuer", ""),
        console_url=top.url("console_url", ""),
        docs_url=top.url("docs_url", ""),
        notes=tuple(top.take("notes", list, [])),
        facts=top.texts("facts"),
        authorize_url=authorize.url("url"),
        authorize_params=authorize.texts("params"),
        scope_separator=str(authorize.take("scope_separator", str, " ")),
        pkce=authorize.choice("pkce", Pkce, "send"),
        iss=_iss(authorize),
        callback_errors=authorize.texts("errors"),
        token_url=token.url("url"),
        refresh_url=token.url("refresh_url", ""),
        token_params=token.texts("params"),
        client_auth=token.choice("client_auth", ClientAuth, "post"),
        body_format=token.choice("body", BodyFormat, "form"),
        read_timeout=token.seconds("timeout", timedelta(seconds=20)),
        error_map=tuple(_error_rule(rule) for rule in token.children("errors")),
        refresh=_refresh(top.child("refresh") or _missing(top, "refresh")),
        userinfo=_endpoint(userinfo) if userinfo else None,
        userinfo_scope=userinfo.text("scope", "") if userinfo else "",
        profile=_profile(profile) if profile else None,
        sites=_endpoint(sites) if sites else None,
        sites_reader=sites_reader,
        revoke=_endpoint(revoke) if revoke and "url" in revoke.table else None,
        revoke_text=revoke.text("text", "") if revoke else "",
        revoke_page=revoke.url("page", "") if revoke else "",
        scope_groups=_groups(top),
        forbidden_scopes=tuple(form.take("forbidden_scopes", list, [])) if form else (),
        scope_warning_at=form.take("scope_warning_at", int, 0) if form else 0,
        client_id_pattern=form.text("client_id_pattern", "") if form else "",
        secret_prefix=form.text("secret_prefix", "") if form else "",
        steps=tuple(
            Step(title=step.text("title"), text=step.text("text", ""), shows=step.text("shows", ""), url=step.url("url", ""))
            for step in top.children("steps")
        ),
    )


def _missing(reader: _Reader, name: str) -> _Reader:
    raise reader.fail(f"[{name}]", "is missing.")


def _accent(reader: _Reader) -> str:
    accent = reader.text("accent", "blue")
    if accent not in {"blue", "green", "violet", "orange", "grey"}:
        raise reader.fail("accent", "must be blue, green, violet, orange or grey.")
    return accent


def _iss(reader: _Reader) -> str:
    value = reader.text("iss", "if-present")
    if value not in {"required", "if-present"}:
        raise reader.fail("iss", "must be 'required' or 'if-present'.")
    return value


def _endpoint(reader: _Reader) -> Endpoint:
    method = reader.text("method", "GET")
    if method not in {"GET", "POST", "DELETE"}:
        raise reader.fail("method", "must be GET, POST or DELETE.")
    return Endpoint(url=reader.url("url"), method=method, headers=reader.texts("headers"))


def _profile(reader: _Reader) -> ProfileFields:
    return ProfileFields(
        id=reader.text("id"), name=reader.text("name"), email=reader.text("email", ""), picture=reader.text("picture", "")
    )


def _error_rule(reader: _Reader) -> ErrorRule:
    rule = ErrorRule(
        outcome=reader.choice("outcome", Outcome),
        error=reader.text("error", "") or None,
        status=reader.take("status", int, None),
        grant_type=reader.text("grant_type", "") or None,
        cause=reader.text("cause", ""),
    )
    if rule.error is None and rule.status is None:
        raise reader.fail("error", "or status must be given, else the rule would match everything.")
    return rule


def _refresh(reader: _Reader) -> RefreshPolicy:
    policy = RefreshPolicy(
        rotation=reader.choice("rotation", Rotation),
        leeway=reader.seconds("leeway", timedelta(0)),
        ahead=reader.seconds("ahead", timedelta(minutes=5)),
        companion=reader.seconds("companion", None),
        idle_limit=_days(reader, "idle_days"),
        absolute_limit=_days(reader, "absolute_days"),
        default_lifetime=reader.seconds("default_lifetime", timedelta(hours=1)),
    )
    if policy.rotation is Rotation.GRACE and not policy.leeway:
        raise reader.fail("leeway", "must be given (in seconds) with rotation 'grace'.")
    return policy


def _days(reader: _Reader, name: str) -> timedelta | None:
    days = reader.take(name, int, None)
    return None if days is None else timedelta(days=days)


def _groups(top: _Reader) -> tuple[ScopeGroup, ...]:
    seen: set[str] = set()
    groups = []
    for group in top.children("groups"):
        scopes = []
        for scope in group.children("scopes"):
            name = scope.text("name")
            if name in seen or not name or re.search(r"\s", name):
                raise scope.fail("name", f"'{name}' is empty, holds a space, or stands in the file twice.")
            seen.add(name)
            scopes.append(
                Scope(
                    name=name,
                    label=scope.text("label"),
                    plain=scope.text("plain"),
                    is_required=scope.take("required", bool, False),
                    is_default=scope.take("default", bool, False),
                    is_more=scope.take("more", bool, False),
                    reason=scope.text("reason", ""),
                    needs_console=scope.take("console", bool, True),
                )
            )
            if scopes[-1].is_required and not scopes[-1].reason:
                raise scope.fail("reason", "must say why the scope is required.")
        groups.append(
            ScopeGroup(
                id=group.text("id"),
                name=group.text("name"),
                console_name=group.text("console", ""),
                is_product=group.take("product", bool, True),
                scopes=tuple(scopes),
            )
        )
    return tuple(groups)
