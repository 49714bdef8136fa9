"""The accounts and sites that exist in the sandbox: a fixed cast, the same after every restart."""

from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

MADE_UP_PREFIX = "user-"


@dataclass(frozen=True, slots=True)
class Site:
    """One Atlassian cloud site, with the products that it has."""

    name: str
    products: tuple[str, ...]
    # True where Jira and Confluence always show up as two entries with one cloud id.
    is_split: bool = False

    @property
    def cloud_id(self) -> str:
        return str(uuid5(NAMESPACE_URL, f"sandbox-site:{self.name}"))

    @property
    def url(self) -> str:
        # .example, so that no link in a demo leads to a stranger's real site.
        return f"https://{self.name}.atlassian.example"


@dataclass(frozen=True, slots=True)
class Account:
    """One person with an Atlassian account."""

    slug: str
    name: str
    email: str
    job_title: str
    sites: tuple[Site, ...]

    @property
    def account_id(self) -> str:
        return f"712020:{uuid5(NAMESPACE_URL, f'sandbox-account:{self.slug}')}"

    @property
    def site_names(self) -> str:
        return ", ".join(site.name for site in self.sites) or "no site"

    def site(self, name_or_id: str) -> Site | None:
        return next((site for site in self.sites if name_or_id in (site.name, site.cloud_id)), None)


ACME = Site("acme", ("jira", "confluence"))
ACME_LABS = Site("acme-labs", ("jira", "confluence"))
GLOBEX = Site("globex", ("jira", "confluence"), is_split=True)
INITECH = Site("initech", ("jira",))
NORTHWIND = Site("northwind", ("confluence",))

SITES = {site.cloud_id: site for site in (ACME, ACME_LABS, GLOBEX, INITECH, NORTHWIND)}

ACCOUNTS = {
    account.slug: account
    for account in (
        Account("jo", "Jo Doe", "jo@acme.example", "Product manager", (ACME, ACME_LABS)),
        Account("sam", "Sam Roe", "sam@acme.example", "Engineer", (ACME,)),
        Account("kim", "Kim Poe", "kim@mail.example", "Consultant", ()),
        Account("lee", "Lee Moe", "lee@globex.example", "Administrator", (GLOBEX, INITECH, NORTHWIND)),
    )
}


def find_account(slug: str) -> Account | None:
    """Return the account, or a made-up one on acme for `user-…`, so that a benchmark can have thousands."""
    if slug.startswith(MADE_UP_PREFIX):
        number = slug.removeprefix(MADE_UP_PREFIX)
        return Account(slug, f"User {number}", f"{slug}@acme.example", "Colleague", (ACME,))
    return ACCOUNTS.get(slug)


def account_named(slug: str) -> Account:
    """Return the account of a grant; its slug was checked when the grant was made."""
    account = find_account(slug)
    if account is None:
        raise LookupError(f"There is no account {slug!r} in the sandbox; it has {', '.join(ACCOUNTS)}.")
    return account
