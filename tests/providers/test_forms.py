"""Input that is wrong gets a sentence that helps; what is right is cleaned in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.http import QueryDict

from providers.forms import ProviderForm
from tests.factories import CLIENT_SECRET, GrantFactory, ProviderConfigFactory

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from providers.spec import ProviderSpec

CLIENT_ID = "kR7v2QmXp0bT4yNc9LsWd3Ha8ZfJ6uGe"


def _form(spec: ProviderSpec, *, config: ProviderConfig | None = None, **fields: Any) -> ProviderForm:
    data = QueryDict(mutable=True)
    given = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scopes": ["read:jira-work"], **fields}
    for name, value in given.items():
        data.setlist(name, value if isinstance(value, list) else [value])
    return ProviderForm(spec, data, config=config)


def _error(form: ProviderForm, field: str) -> str:
    assert not form.is_valid()
    # Whatever is wrong, the secret must be pasted again.
    assert set(form.errors) - {"client_secret"} == {field} - {"client_secret"}
    return " ".join(form.errors[field])


def test_what_is_right_is_saved_with_the_required_scopes_in_the_catalogs_order(atlassian: ProviderSpec):
    form = _form(atlassian, scopes=["read:confluence-content.all", "write:jira-work", "read:jira-work"])

    assert form.is_valid(), form.errors
    assert form.cleaned_data["scopes"] == [
        "read:me",
        "offline_access",
        "read:jira-work",
        "write:jira-work",
        "read:confluence-content.all",
    ]


@pytest.mark.parametrize("around", [" ", "\n", "\r\n", "\t", "\u00a0", "\u200b", "\ufeff", " \u200b\n "])
def test_what_surrounds_a_pasted_id_or_secret_is_dropped(atlassian: ProviderSpec, around: str):
    form = _form(
        atlassian, client_id=around + CLIENT_ID + around, client_secret=around + CLIENT_SECRET + around
    )

    assert form.is_valid(), form.errors
    assert form.cleaned_data["client_id"] == CLIENT_ID
    assert form.cleaned_data["client_secret"] == CLIENT_SECRET


@pytest.mark.parametrize(("field", "label"), [("client_id", "client ID"), ("client_secret", "client secret")])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("abc def", "has a space or line break inside. Copy it again"),
        ("abc\ndef", "has a space or line break inside. Copy it again"),
        ("abc\u00a0def", "has a space or line break inside"),
        ("abcdéf", "has characters that none has, such as “é”"),
        ("abc\u200bdef", "such as “U+200B”"),
        ("abc\x07def", "such as “U+0007”"),
        ("••••••••", "such as “•”"),
        ("a" * 5000, "has 5000 characters; more than"),
    ],
)
def test_what_cannot_be_an_id_or_secret_is_refused_with_the_reason(
    atlassian: ProviderSpec, field: str, label: str, value: str, sentence: str
):
    error = _error(_form(atlassian, **{field: value}), field)

    assert error.startswith(f"The {label} ")
    assert sentence in error


def test_an_empty_id_and_secret_say_where_to_find_them(atlassian: ProviderSpec):
    form = _form(atlassian, client_id=" ", client_secret="\u200b")

    assert not form.is_valid()
    assert form.errors["client_id"] == [
        "Paste the client ID. In the Atlassian console: Settings, Authentication details."
    ]
    assert form.errors["client_secret"] == [
        "Paste the client secret. In the Atlassian console: Settings, Authentication details."
    ]


def test_the_secret_in_the_ids_field_is_noticed(atlassian: ProviderSpec):
    error = _error(_form(atlassian, client_id=CLIENT_SECRET, client_secret="another"), "client_id")

    assert error.startswith("This looks like the client secret.")


def test_the_id_in_both_fields_is_noticed(atlassian: ProviderSpec):
    error = _error(_form(atlassian, client_secret=f" {CLIENT_ID}"), "client_secret")

    assert error == "This is the client ID, pasted twice. Secrets of new apps begin with ATOA."


def test_another_id_in_the_secrets_field_is_saved_with_a_remark(atlassian: ProviderSpec):
    form = _form(atlassian, client_secret="A" * 32)

    assert form.is_valid(), form.errors
    assert form.remarks == ["The client secret looks like a client ID. If connecting fails, replace it."]


def test_an_id_of_another_shape_is_saved_with_a_remark(atlassian: ProviderSpec):
    form = _form(atlassian, client_id="new-style-id")

    assert form.is_valid(), form.errors
    assert "usually has 32 letters and digits; this one looks different" in form.remarks[0]


@pytest.mark.parametrize("scopes", [[], ["read:me"], ["offline_access", "read:me"]])
def test_no_scope_of_a_product_is_refused_with_the_products_names(atlassian: ProviderSpec, scopes: list[str]):
    error = _error(_form(atlassian, scopes=scopes), "scopes")

    assert (
        error
        == "Choose at least one scope of Jira or Confluence: without one there is nothing to connect to."
    )


@pytest.mark.parametrize("scope", ["read:servicedesk-request", "search:confluence"])
def test_a_scope_under_more_is_one_of_a_product(atlassian: ProviderSpec, scope: str):
    form = _form(atlassian, scopes=[scope])

    assert form.is_valid(), form.errors


@pytest.mark.parametrize(
    ("scopes", "sentence"),
    [
        (["read:jira-work", "read:jira-work"], "“read:jira-work” is chosen twice."),
        (
            ["read:jira-work", "openid"],
            "“openid” breaks Atlassian's consent page, so it cannot be asked for.",
        ),
        (["read:jira-work", "read:issue:jira"], "“read:issue:jira” is not a scope that can be chosen here."),
        (["read:jira-work", "x" * 500], "“" + "x" * 60 + "” is not a scope that can be chosen here."),
        (["read:jira-work", ""], "“” is not a scope that can be chosen here."),
        (["read:jira-work read:jira-user"], "is not a scope that can be chosen here."),
    ],
)
def test_scopes_that_cannot_be_asked_for_are_named(atlassian: ProviderSpec, scopes: list[str], sentence: str):
    error = _error(_form(atlassian, scopes=scopes), "scopes")

    assert sentence in error


def test_a_provider_without_products_needs_no_scope(plain: ProviderSpec):
    form = ProviderForm(plain, QueryDict("client_id=a&client_secret=b&scopes=files.write"))

    assert form.is_valid(), form.errors
    assert form.cleaned_data["scopes"] == ["files.write"]


def test_defaults_and_required_scopes_are_chosen_beforehand(atlassian: ProviderSpec):
    choice = ProviderForm(atlassian).scope_choice

    chosen = [row.scope.name for group in choice.common for row in group.rows if row.is_chosen]
    assert chosen == ["read:me", "offline_access", "read:jira-work"]
    assert [(group.name, group.chosen, len(group.rows)) for group in choice.common] == [
        ("Common", 2, 2),
        ("Jira", 1, 3),
        ("Confluence", 0, 3),
    ]
    assert not choice.is_more_open


def test_the_console_is_shown_what_to_tick_there(atlassian: ProviderSpec):
    choice = _form(atlassian, scopes=["search:confluence", "write:jira-work"]).scope_choice

    assert {entry.name: entry.scopes for entry in choice.console if entry.scopes} == {
        "User Identity API": ("read:me",),
        "Jira API": ("write:jira-work",),
        "Confluence API, classic scopes": ("search:confluence",),
    }
    assert choice.is_more_open


def test_the_number_of_scopes_warns_near_the_limit(atlassian: ProviderSpec):
    import dataclasses

    few = dataclasses.replace(atlassian, scope_warning_at=5)

    assert not _form(few, scopes=["read:jira-work", "read:jira-user"]).scope_choice.is_near_limit
    assert _form(
        few, scopes=["read:jira-work", "read:jira-user", "write:jira-work"]
    ).scope_choice.is_near_limit


def test_a_secret_that_was_sent_beside_something_wrong_is_asked_for_again(atlassian: ProviderSpec):
    form = _form(atlassian, client_id="with a space")

    assert not form.is_valid()
    assert form.errors["client_secret"] == [
        "Paste the client secret again: it never comes back to this page."
    ]


def test_a_secret_is_never_put_back_into_the_page(atlassian: ProviderSpec):
    form = _form(atlassian, client_id="short")

    assert CLIENT_SECRET not in str(form["client_secret"])
    assert 'value="short"' in str(form["client_id"])


# --- Changing -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_empty_secret_keeps_the_present_one(atlassian: ProviderSpec):
    config = ProviderConfigFactory()

    form = _form(atlassian, config=config, client_id=config.client_id, client_secret="")

    assert form.is_valid(), form.errors
    assert form.cleaned_data["client_secret"] == ""


@pytest.mark.django_db
def test_another_client_id_is_doubted_while_there_are_connections(atlassian: ProviderSpec):
    config = ProviderConfigFactory()
    GrantFactory(provider_config=config)
    GrantFactory(provider_config=config, revoked=True)

    error = _error(_form(atlassian, config=config, client_secret=""), "is_sure")

    assert "1 connection was made with the present client ID." in error
    assert "must connect again" in error


@pytest.mark.django_db
def test_an_unusual_client_id_is_not_doubted_again_when_something_else_is_changed(atlassian: ProviderSpec):
    config = ProviderConfigFactory(client_id="unusual")
    GrantFactory(provider_config=config)

    form = _form(atlassian, config=config, client_id="unusual", client_secret="")

    assert form.is_valid(), form.errors
