"""What each field of a catalog file says, and what it must not say. docs/providers.md tells what they mean."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from providers.catalog_scopes import read_groups
from providers.sites import SITE_READERS
from providers.spec import (
    CALLBACK_FAILURES,
    LONGEST_READ,
    BodyFormat,
    CallLimits,
    ClientAuth,
    Endpoint,
    ErrorRule,
    Outcome,
    Pkce,
    ProfileFields,
    ProviderSpec,
    ProxyRules,
    RefreshPolicy,
    Rotation,
    ScopeGroup,
    Step,
)

if TYPE_CHECKING:
    from providers.catalog_reader import Reader

# Set for each request, so a file can't set them for all.
_OURS = frozenset(
    {"client_id", "client_secret", "redirect_uri", "response_type", "state", "scope", "grant_type"}
    | {"code", "code_challenge", "code_challenge_method", "code_verifier", "refresh_token"}
)


def read_spec(top: Reader) -> ProviderSpec:
    """Read a whole file. Raises CatalogError naming the file, the field, and what is expected."""
    provider_id = top.text("id")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,49}", provider_id) or provider_id == "add":
        raise top.fail("id", "must be small letters, digits and dashes, at most 50, and not 'add'.")
    authorize, token = top.required_child("authorize"), top.required_child("token")
    userinfo, sites, revoke, form = (top.child(name) for name in ("userinfo", "sites", "revoke", "form"))
    issuer = top.text("issuer", "")
    iss = authorize.one_of("iss", ("required", "if-present"), "if-present")
    if iss == "required" and not issuer:
        raise top.fail("issuer", "is missing; authorize.iss requires something to compare with.")
    separator = str(authorize.take("scope_separator", str, " "))
    if separator not in ("", " ", ","):
        raise authorize.fail("scope_separator", "must be ' ' or ',', or '' for a provider without scopes.")
    forbidden = form.texts("forbidden_scopes") if form else ()
    groups = read_groups(top, separator=separator, forbidden=forbidden)
    pattern = form.pattern("client_id_pattern") if form else ""
    words = form.text("client_id_words", "") if form else ""
    if form and bool(pattern) != bool(words):
        raise form.fail(
            "client_id_words", "and client_id_pattern belong together: one says the other for people."
        )
    return ProviderSpec(
        id=provider_id,
        name=top.text("name"),
        category=top.text("category"),
        tagline=top.text("tagline"),
        accent=top.one_of("accent", ("blue", "green", "violet", "orange", "grey"), "blue"),
        source=top.url("source", ""),
        checked_on=top.text("checked_on", ""),
        has_sandbox=top.take("has_sandbox", bool, False),
        issuer=issuer,
        docs_url=top.url("docs_url", ""),
        notes=top.texts("notes"),
        facts=top.named_texts("facts"),
        authorize_url=authorize.url("url"),
        authorize_params=authorize.named_texts("params", reserved=_OURS),
        scope_separator=separator,
        scope_param=authorize.text("scope_param", "scope"),
        pkce=authorize.choice("pkce", Pkce, "send"),
        iss=iss,
        callback_errors=_callback_errors(authorize),
        token_url=token.url("url"),
        refresh_url=token.url("refresh_url", ""),
        token_params=token.named_texts("params", reserved=_OURS),
        client_auth=token.choice("client_auth", ClientAuth, "post"),
        body_format=token.choice("body", BodyFormat, "form"),
        token_type=token.text("token_type", "bearer").lower(),
        answer_in=token.text("answer_in", ""),
        read_timeout=_read_timeout(token),
        error_map=tuple(_error_rule(rule) for rule in token.children("errors")),
        refresh=_refresh(top.required_child("refresh")),
        limits=_limits(top.child("limits")),
        userinfo=_endpoint(userinfo) if userinfo else None,
        userinfo_scope=_userinfo_scope(userinfo, groups) if userinfo else "",
        profile=_profile(userinfo.required_child("fields")) if userinfo else None,
        sites=_endpoint(sites) if sites else None,
        sites_reader=sites.one_of("reader", sorted(SITE_READERS)) if sites else "",
        site_base_urls=_base_urls(sites.child("base_urls")) if sites else {},
        proxy=_proxy(top.child("proxy")),
        revoke=_revoke(revoke) if revoke and "url" in revoke.table else None,
        revoke_text=revoke.text("text", "") if revoke else "",
        revoke_text_for_members=revoke.text("text_for_members", "") if revoke else "",
        revoke_page=revoke.url("page", "") if revoke else "",
        scope_groups=groups,
        forbidden_scopes=forbidden,
        scope_warning_at=form.number("scope_warning_at", 0) if form else 0,
        credentials_place=form.text("credentials_place", "") if form else "",
        client_id_pattern=pattern,
        client_id_words=words,
        secret_prefix=form.text("secret_prefix", "") if form else "",
        steps=tuple(_step(step) for step in top.children("steps")),
    )


def _read_timeout(token: Reader) -> timedelta:
    timeout: timedelta = token.seconds("timeout", timedelta(seconds=20))
    if not timedelta(0) < timeout <= LONGEST_READ:
        raise token.fail("timeout", f"must be 1 to {LONGEST_READ.seconds} seconds, it is {timeout}.")
    return timeout


def _callback_errors(reader: Reader) -> dict[str, str]:
    errors = reader.named_texts("errors")
    for error, failure in errors.items():
        if failure not in CALLBACK_FAILURES:
            known = ", ".join(f"'{name}'" for name in CALLBACK_FAILURES)
            raise reader.fail(f"errors.{error}", f"is '{failure}', but must be one of {known}.")
    return errors


def _endpoint(reader: Reader) -> Endpoint:
    method = reader.one_of("method", ("GET", "POST"), "GET")
    return Endpoint(url=reader.url("url"), method=method, headers=reader.named_texts("headers"))


def _revoke(reader: Reader) -> Endpoint:
    return Endpoint(url=reader.url("url"), method="POST", headers=reader.named_texts("headers"))


def _proxy(reader: Reader | None) -> ProxyRules:
    if reader is None:
        return ProxyRules()
    statuses = reader.take("expired_statuses", list, [])
    if not all(isinstance(status, int) and 400 <= status < 500 for status in statuses):
        raise reader.fail("expired_statuses", "must be a list of statuses from 400 to 499.")
    return ProxyRules(
        request_headers=frozenset(name.lower() for name in reader.texts("request_headers")),
        response_headers=frozenset(name.lower() for name in reader.texts("response_headers")),
        not_expired=reader.text("not_expired", ""),
        expired_statuses=frozenset(statuses),
    )


def _base_urls(reader: Reader | None) -> dict[str, str]:
    return {product: reader.url(product) for product in tuple(reader.table)} if reader else {}


def _profile(reader: Reader) -> ProfileFields:
    return ProfileFields(
        id=reader.text("id"),
        name=reader.text("name"),
        email=reader.text("email", ""),
    )


def _userinfo_scope(reader: Reader, groups: tuple[ScopeGroup, ...]) -> str:
    name = reader.text("scope", "")
    if name and not any(name == scope.name for group in groups for scope in group.scopes):
        raise reader.fail("scope", f"is '{name}', which is not one of the scopes that the file offers.")
    return name


def _error_rule(reader: Reader) -> ErrorRule:
    rule = ErrorRule(
        outcome=reader.choice("outcome", Outcome),
        error=reader.text("error", "") or None,
        status=reader.number("status") if "status" in reader.table else None,
        grant_type=reader.one_of("grant_type", ("", "authorization_code", "refresh_token"), "") or None,
        cause=reader.text("cause", ""),
    )
    if rule.outcome in (Outcome.OK, Outcome.NOT_SENT):
        raise reader.fail("outcome", f"cannot be '{rule.outcome}': an error answer is neither.")
    if rule.error is None and (rule.status is None or rule.outcome is Outcome.GRANT_DEAD):
        raise reader.fail(
            "error", "is missing; a status alone is given by gateways too, and must end no grant."
        )
    return rule


def _refresh(reader: Reader) -> RefreshPolicy:
    policy = RefreshPolicy(
        rotation=reader.choice("rotation", Rotation),
        leeway=reader.seconds("leeway", timedelta(0)),
        ahead=reader.seconds("ahead", timedelta(minutes=5)),
        companion=reader.seconds("companion", None),
        idle_limit=reader.days("idle_days"),
        absolute_limit=reader.days("absolute_days"),
        default_lifetime=reader.seconds("default_lifetime", timedelta(hours=1)),
    )
    if policy.rotation is Rotation.GRACE and not policy.leeway:
        raise reader.fail("leeway", "must be given (in seconds) with rotation 'grace'.")
    if policy.leeway and policy.rotation is not Rotation.GRACE:
        raise reader.fail("leeway", f"means nothing with rotation '{policy.rotation}'; leave it out.")
    if policy.rotation is Rotation.GRACE and policy.ahead > policy.leeway:
        raise reader.fail(
            "ahead", "must not be longer than leeway: a lost answer is asked for again within it."
        )
    return policy


def _limits(reader: Reader | None) -> CallLimits:
    if reader is None:
        return CallLimits()
    limits = CallLimits(
        parallel=reader.number("parallel", CallLimits.parallel),
        per_second=reader.number("per_second", CallLimits.per_second),
    )
    if not limits.parallel:
        raise reader.fail("parallel", "must be at least 1.")
    return limits


def _step(reader: Reader) -> Step:
    return Step(
        title=reader.text("title"),
        text=reader.text("text", ""),
        shows=reader.one_of("shows", ("", "redirect_uri", "scopes"), ""),
        url=reader.url("url", ""),
    )
