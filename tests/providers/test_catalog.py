"""Catalog files: ours holds what Atlassian's reference says, and a wrong file gets a sentence that helps."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from providers.catalog_loader import CatalogError, UnknownProviderError, catalog, load
from providers.checks import check_catalog, check_sandbox_url
from providers.spec import BodyFormat, ClientAuth, Outcome, Pkce, Rotation

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread
    from providers.spec import ProviderSpec

MINIMAL = """
id = "hub"
name = "Hub"
category = "Files"
tagline = "A hub"
[authorize]
url = "https://hub.example/authorize"
[token]
url = "https://hub.example/token"
[refresh]
rotation = "static"
"""
SCOPE = (
    '[[groups]]\nid = "a"\nname = "A"\n[[groups.scopes]]\nname = "read"\nlabel = "Read."\nplain = "read"\n'
)


def _load(folder: Path, text: str, **options: Any) -> ProviderSpec:
    file = folder / "hub.toml"
    file.write_text(text)
    return load(file, **options)


# --- Atlassian ------------------------------------------------------------------------------------------------------


def test_atlassian_is_spoken_to_as_documented(atlassian: ProviderSpec):
    assert atlassian.authorize_url == "https://auth.atlassian.com/authorize"
    assert atlassian.authorize_params == {"audience": "api.atlassian.com", "prompt": "consent"}
    assert (
        atlassian.token_url
        == atlassian.token_endpoint_for_refresh
        == "https://auth.atlassian.com/oauth/token"
    )
    assert atlassian.userinfo is not None
    assert atlassian.userinfo.url == "https://api.atlassian.com/me"
    assert atlassian.sites is not None
    assert atlassian.sites.url == "https://api.atlassian.com/oauth/token/accessible-resources"
    assert (atlassian.client_auth, atlassian.body_format) == (ClientAuth.POST, BodyFormat.JSON)
    assert (atlassian.pkce, atlassian.scope_separator) == (Pkce.SEND, " ")
    assert atlassian.revoke is None


def test_atlassian_s_refresh_tokens_rotate_with_ten_minutes_leeway_and_ninety_days_of_rest(
    atlassian: ProviderSpec,
):
    policy = atlassian.refresh

    assert (policy.rotation, policy.leeway) == (Rotation.GRACE, timedelta(minutes=10))
    assert (policy.idle_limit, policy.absolute_limit) == (timedelta(days=90), None)
    assert policy.companion == timedelta(minutes=10)
    assert policy.ahead <= policy.leeway
    assert policy.default_lifetime == timedelta(hours=1)


def test_the_eight_documented_scopes_come_first_in_the_documented_groups(atlassian: ProviderSpec):
    shown = {
        group.name: [scope.name for scope in group.scopes if not scope.is_more]
        for group in atlassian.scope_groups
    }

    assert {name: scopes for name, scopes in shown.items() if scopes} == {
        "Common": ["read:me", "offline_access"],
        "Jira": ["read:jira-work", "write:jira-work", "read:jira-user"],
        "Confluence": [
            "read:confluence-content.all",
            "write:confluence-content",
            "read:confluence-space.summary",
        ],
    }


def test_all_classic_scopes_of_the_three_products_are_offered_and_no_granular_one(atlassian: ProviderSpec):
    count = {group.id: len(group.scopes) for group in atlassian.scope_groups}

    assert count == {"common": 2, "jira": 7, "jsm": 4, "confluence": 15}
    granular = re.compile(r"(read|write|delete):[a-z.-]+:[a-z-]+")
    assert not [name for name in atlassian.scopes if granular.fullmatch(name)]


def test_read_me_and_offline_access_are_required_for_true_reasons(atlassian: ProviderSpec):
    reasons = {name: atlassian.scopes[name].reason for name in atlassian.required_scopes}

    assert list(reasons) == ["read:me", "offline_access"]
    # The documented page says that sites are found with read:me; they are not.
    assert "found without it" in reasons["read:me"]
    assert "refresh" in reasons["offline_access"]
    assert atlassian.userinfo_scope == "read:me"


def test_offline_access_alone_is_not_to_be_ticked_in_the_console(atlassian: ProviderSpec):
    assert [name for name, scope in atlassian.scopes.items() if not scope.needs_console] == ["offline_access"]


def test_write_jira_work_does_not_promise_projects(atlassian: ProviderSpec):
    label = atlassian.scopes["write:jira-work"].label

    assert "Not projects" in label
    assert "manage:jira-configuration" in label
    assert "project" not in atlassian.scopes["write:jira-work"].plain.lower()


def test_scopes_that_break_atlassian_s_page_are_forbidden(atlassian: ProviderSpec):
    assert atlassian.forbidden_scopes == ("openid", "profile", "email")


def test_the_steps_are_the_documented_ones_and_sharing(atlassian: ProviderSpec):
    titles = [step.title for step in atlassian.steps]

    assert [title.split(" ")[0] for title in titles] == [
        "Go",
        "Create",
        "Authorization",
        "Permissions",
        "Distribution",
        "Settings",
    ]
    assert [step.shows for step in atlassian.steps if step.shows] == ["redirect_uri", "scopes"]


@pytest.mark.parametrize(
    ("client_id", "fits"), [("a" * 32, True), ("A1" * 16, True), ("a" * 31, False), ("a" * 31 + "-", False)]
)
def test_a_client_id_of_atlassian_has_32_letters_and_digits(
    atlassian: ProviderSpec, client_id: str, fits: bool
):
    assert bool(re.fullmatch(atlassian.client_id_pattern, client_id)) is fits


def test_every_word_of_the_catalog_is_said_to_people_as_a_sentence(atlassian: ProviderSpec):
    for scope in atlassian.scopes.values():
        assert scope.label.rstrip(")").endswith(".")
        assert scope.plain[0].islower()
        assert not scope.plain.endswith(".")


# --- The sandbox ----------------------------------------------------------------------------------------------------


def test_with_a_sandbox_every_address_that_is_called_is_the_sandbox_s(sandbox: SandboxThread):
    spec = catalog()["atlassian"]

    assert spec.userinfo is not None
    assert spec.sites is not None
    called = [spec.authorize_url, spec.token_url, spec.userinfo.url, spec.sites.url, spec.revoke_page]
    assert {url.removeprefix(sandbox.url)[0] for url in called} == {"/"}
    assert spec.token_url == f"{sandbox.url}/oauth/token"


def test_without_one_no_address_of_a_provider_leads_there(atlassian: ProviderSpec):
    assert urlsplit(atlassian.token_url).netloc == "auth.atlassian.com"


@pytest.mark.parametrize("url", ["ftp://x", "http://", "sandbox", "http://localhost:8001/path"])
def test_a_sandbox_url_that_is_no_origin_is_noticed_at_start(url: str, settings: Any):
    settings.SANDBOX_URL = url

    (error,) = check_sandbox_url()

    assert error.id == "providers.E002"


# --- Providers of one's own -----------------------------------------------------------------------------------------


def test_a_folder_of_one_s_own_adds_a_provider(plain: ProviderSpec):
    assert set(catalog()) == {"atlassian", "plain"}
    assert (plain.client_auth, plain.scope_separator) == (ClientAuth.BASIC, ",")
    assert plain.refresh.rotation is Rotation.STATIC
    assert plain.profile is not None
    assert plain.profile.id == "sub"


def test_an_unknown_provider_is_said_to_be_unknown():
    with pytest.raises(UnknownProviderError, match="There is no provider 'nope' in the catalog"):
        _ = catalog()["nope"]


def test_a_short_file_is_enough(tmp_path: Path):
    spec = _load(tmp_path, MINIMAL)

    assert spec.scope_groups == ()
    assert (spec.pkce_fact, spec.refresh_fact) == (
        "Supported: S256 is always sent.",
        "Automatic, before the access token runs out.",
    )


def test_a_provider_whose_tokens_are_not_refreshed_says_so(tmp_path: Path):
    spec = _load(
        tmp_path, MINIMAL.replace('"static"', '"none"').replace("[token]", 'pkce = "never"\n[token]')
    )

    assert (spec.pkce_fact, spec.refresh_fact) == (
        "Not supported.",
        "None: access ends when the access token does.",
    )


WRONG = [
    ("id = ", "cannot be read as TOML"),
    (MINIMAL.replace('id = "hub"\n', ""), "id is missing; it must be text"),
    (MINIMAL.replace('"hub"', '"Hub!"'), "id must be small letters, digits and dashes"),
    (MINIMAL.replace('"hub"', '"add"'), "and not 'add'"),
    (MINIMAL.replace('name = "Hub"', "name = 7"), "name must be text, it is 7"),
    (MINIMAL.replace('name = "Hub"', 'name = " "'), "name is empty"),
    ("colour = 1\n" + MINIMAL, "colour is not a field that the catalog knows; is it misspelt?"),
    ('accent = "pink"\n' + MINIMAL, "accent is 'pink', but must be one of 'blue', 'green'"),
    ("has_sandbox = 1\n" + MINIMAL, "has_sandbox must be true or false, it is 1"),
    ('notes = ["a", 1]\n' + MINIMAL, "notes must be a list of texts"),
    ("token = 1\n" + MINIMAL.replace("[token]\n", "[other]\n"), "token must be a table, it is 1"),
    (MINIMAL.partition("[token]")[0], "[token] is missing; the file needs this table"),
    (
        MINIMAL.replace("https://hub.example/token", "http://hub.example/token"),
        "token.url must begin with https://",
    ),
    (
        MINIMAL.replace("https://hub.example/token", "https://u:p@hub.example"),
        "token.url must be an address such as",
    ),
    (
        MINIMAL.replace("https://hub.example/token", "https://hub.example:x/"),
        "token.url must be an address such as",
    ),
    (MINIMAL.replace("https://hub.example/token", "https://[hub/"), "token.url must be an address such as"),
    (MINIMAL.replace("https://hub.example/token", "/token"), "token.url must be an address such as"),
    (
        MINIMAL.replace("[token]", '[token]\nclient_auth = "jwt"'),
        "token.client_auth is 'jwt', but must be one of 'post', 'basic'",
    ),
    (
        MINIMAL.replace("[token]", '[token]\nbody = "xml"'),
        "token.body is 'xml', but must be one of 'form', 'json'",
    ),
    (MINIMAL.replace("[token]", "[token]\ntimeout = -1"), "token.timeout must not be negative"),
    (MINIMAL.replace("[token]", '[token]\ntimeout = "5"'), "token.timeout must be a whole number, it is '5'"),
    (
        MINIMAL.replace("[token]", "[token]\ntimeout = true"),
        "token.timeout must be a whole number, it is True",
    ),
    (
        MINIMAL.replace("[token]", '[token]\nparams = { client_secret = "x" }'),
        "token.params.client_secret cannot be given",
    ),
    (MINIMAL.replace("[token]", "[token]\nerrors = [1]"), "token.errors[1] must be a table, it is 1"),
    (
        MINIMAL.replace("[refresh]", '[[token.errors]]\noutcome = "dead"\n[refresh]'),
        "token.errors[1].outcome is 'dead', but must be one of",
    ),
    (MINIMAL.replace("[refresh]", '[[token.errors]]\noutcome = "ok"\n[refresh]'), "cannot be 'ok'"),
    (
        MINIMAL.replace("[refresh]", '[[token.errors]]\noutcome = "client_bad"\n[refresh]'),
        "token.errors[1].error is missing",
    ),
    (
        MINIMAL.replace("[refresh]", '[[token.errors]]\noutcome = "grant_dead"\nstatus = 403\n[refresh]'),
        "token.errors[1].error is missing; a status alone is given by gateways too",
    ),
    (
        MINIMAL.replace(
            "[refresh]",
            '[[token.errors]]\noutcome = "client_bad"\nerror = "x"\ngrant_type = "password"\n[refresh]',
        ),
        "token.errors[1].grant_type is 'password', but must be one of",
    ),
    (
        MINIMAL.replace("[token]", 'params = { state = "x" }\n[token]'),
        "authorize.params.state cannot be given",
    ),
    (MINIMAL.replace("[token]", "params = { a = 1 }\n[token]"), "authorize.params.a must be text, it is 1"),
    (
        MINIMAL.replace("[token]", 'pkce = "plain"\n[token]'),
        "authorize.pkce is 'plain', but must be one of 'send', 'required', 'never'",
    ),
    (MINIMAL.replace("[token]", 'iss = "required"\n[token]'), "issuer is missing; authorize.iss requires"),
    (
        MINIMAL.replace("[token]", "[token]\ntimeout = 61"),
        "token.timeout must be 1 to 60 seconds, it is 0:01:01",
    ),
    (MINIMAL.replace("[token]", "[token]\ntimeout = 0"), "token.timeout must be 1 to 60 seconds"),
    (MINIMAL.replace("[token]", 'iss = "maybe"\n[token]'), "authorize.iss is 'maybe'"),
    (
        MINIMAL.replace("[token]", 'scope_separator = ";"\n[token]'),
        "authorize.scope_separator must be ' ' or ','",
    ),
    (
        MINIMAL.replace("[token]", '[authorize.errors]\nx = "odd"\n[token]'),
        "authorize.errors.x is 'odd', but must be one of 'cancelled'",
    ),
    (
        MINIMAL.replace('"static"', '"sometimes"'),
        "refresh.rotation is 'sometimes', but must be one of 'none', 'static'",
    ),
    (
        MINIMAL.replace('"static"', '"grace"'),
        "refresh.leeway must be given (in seconds) with rotation 'grace'",
    ),
    (MINIMAL + "leeway = 5\n", "refresh.leeway means nothing with rotation 'static'"),
    (
        MINIMAL.replace('"static"', '"grace"') + "leeway = 60\nahead = 61\n",
        "refresh.ahead must not be longer than leeway",
    ),
    (MINIMAL + "idle_days = -1\n", "refresh.idle_days must not be negative"),
    (MINIMAL + '[userinfo]\nurl = "https://hub.example/me"\n', "userinfo.[fields] is missing"),
    (
        MINIMAL
        + '[userinfo]\nurl = "https://hub.example/me"\nmethod = "PATCH"\nfields = { id = "i", name = "n" }\n',
        "userinfo.method is 'PATCH', but must be one of 'GET', 'POST'",
    ),
    (
        MINIMAL
        + '[userinfo]\nurl = "https://hub.example/me"\nscope = "me"\nfields = { id = "i", name = "n" }\n',
        "userinfo.scope is 'me', which is not one of the scopes that the file offers",
    ),
    (
        MINIMAL + '[sites]\nurl = "https://hub.example/s"\nreader = "hub"\n',
        "sites.reader is 'hub', but must be one of 'atlassian'",
    ),
    (
        MINIMAL + '[revoke]\nurl = "https://hub.example/r"\nmethod = "GET"\n',
        "revoke.method is not a field that the catalog knows",
    ),
    (MINIMAL + '[form]\nclient_id_pattern = "["\n', "form.client_id_pattern is not a regular expression"),
    (
        MINIMAL + '[form]\nclient_id_pattern = "a+"\n',
        "form.client_id_words and client_id_pattern belong together",
    ),
    (
        MINIMAL + '[[steps]]\ntitle = "Go"\nshows = "me"\n',
        "steps[1].shows is 'me', but must be one of '', 'redirect_uri', 'scopes'",
    ),
    (MINIMAL + SCOPE + SCOPE, "groups[2].id must be small letters, digits and dashes, and no other group's"),
    (
        MINIMAL + SCOPE + SCOPE.replace('"a"', '"b"', 1),
        "groups[2].scopes has 'read', which stands in the file twice",
    ),
    (
        MINIMAL + '[form]\nforbidden_scopes = ["read"]\n' + SCOPE,
        "has 'read', which is forbidden or holds the separator",
    ),
    (
        MINIMAL.replace("[token]", 'scope_separator = ","\n[token]') + SCOPE.replace('"read"', '"a,b"', 1),
        "has 'a,b', which is forbidden or holds the separator",
    ),
    (MINIMAL.replace("[token]", 'scope_separator = ""\n[token]') + SCOPE, "groups cannot be offered"),
    (
        MINIMAL + SCOPE.replace('"read"', '"re ad"', 1),
        "groups[1].scopes[1].name is 're ad', but must be visible ASCII",
    ),
    (MINIMAL + SCOPE + "required = true\n", "groups[1].scopes[1].reason is missing"),
    (MINIMAL + SCOPE + "colour = 1\n", "groups[1].scopes[1].colour is not a field"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG, ids=[sentence[:60] for _, sentence in WRONG])
def test_a_wrong_file_is_told_by_file_field_and_what_is_expected(text: str, sentence: str, tmp_path: Path):
    with pytest.raises(CatalogError) as error:
        _load(tmp_path, text)

    assert str(error.value).startswith(str(tmp_path / "hub.toml"))
    assert sentence in str(error.value)


def test_plain_http_is_taken_where_it_is_switched_on(tmp_path: Path):
    spec = _load(tmp_path, MINIMAL.replace("https:", "http:"), plain_http=True)

    assert spec.token_url == "http://hub.example/token"


def test_two_files_with_one_id_are_noticed_at_start(tmp_path: Path, settings: Any):
    (tmp_path / "mine.toml").write_text(MINIMAL.replace('"hub"', '"atlassian"'))
    settings.PROVIDER_CATALOG_DIRS = [tmp_path]

    (error,) = check_catalog()

    assert error.id == "providers.E001"
    assert "mine.toml: id 'atlassian' is taken by another catalog file" in error.msg


def test_a_folder_that_is_none_is_noticed_at_start(tmp_path: Path, settings: Any):
    settings.PROVIDER_CATALOG_DIRS = [tmp_path / "missing"]

    (error,) = check_catalog()

    assert "PROVIDER_CATALOG_DIRS names" in error.msg
    assert "which is not a folder" in error.msg


def test_a_right_catalog_passes_the_check(plain: ProviderSpec):
    assert check_catalog() == []


def test_the_guide_names_every_field_that_a_file_can_have():
    code = Path(__file__).parents[2] / "providers"
    source = "".join((code / name).read_text() for name in ("catalog_fields.py", "catalog_scopes.py"))
    guide = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
    takers = r"(?:text|texts|named_texts|number|seconds|days|one_of|choice|pattern|url|take|child|required_child|children)"

    names = set(re.findall(rf'\.{takers}\(\s*"([a-z_]+)"', source)) | {"userinfo", "sites", "revoke", "form"}

    assert len(names) > 40
    assert [name for name in sorted(names) if not re.search(rf"`(\[\[?)?{name}(\]\]?)?`", guide)] == []


def test_every_outcome_that_a_map_may_name_is_in_the_guide():
    guide = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()

    assert all(f"`{outcome}`" in guide for outcome in set(Outcome) - {Outcome.OK, Outcome.NOT_SENT})
