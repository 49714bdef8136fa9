"""The scopes that the sandbox knows, with the titles that its consent page shows."""

import re

OFFLINE = "offline_access"
# Atlassian's OAuth 2.0 apps are not OpenID clients: these break the authorize page.
OPENID_SCOPES = frozenset({"openid", "profile", "email"})

# scope -> (product, title, description); product "" means that no site is reached with it.
CLASSIC: dict[str, tuple[str, str, str]] = {
    "offline_access": ("", "Stay connected", "Keep access while you are away."),
    "read:me": ("", "View your profile", "See your name, e-mail address and picture."),
    "read:account": ("", "View user profiles", "See the profiles of other people."),
    "report:personal-data": ("", "Report personal data", "Report accounts whose personal data it stores."),
    "read:jira-user": ("jira", "View Jira people", "See names, e-mail addresses and pictures in Jira."),
    "read:jira-work": ("jira", "View Jira work", "See projects and issues, search them, see attachments."),
    "write:jira-work": ("jira", "Change Jira work", "Create, edit and delete issues, comment, log work."),
    "manage:jira-project": ("jira", "Manage Jira projects", "Change project settings, versions, components."),
    "manage:jira-configuration": (
        "jira",
        "Configure Jira",
        "Change settings that need a Jira administrator.",
    ),
    "manage:jira-webhook": ("jira", "Manage Jira webhooks", "Add, see and remove webhooks."),
    "manage:jira-data-provider": ("jira", "Provide Jira data", "Send development and deployment data."),
    "read:servicedesk-request": ("jira", "View service requests", "See customer requests."),
    "write:servicedesk-request": ("jira", "Change service requests", "Create and edit customer requests."),
    "manage:servicedesk-customer": (
        "jira",
        "Manage service customers",
        "Manage customers and organizations.",
    ),
    "read:servicemanagement-insight-objects": ("jira", "View assets", "See objects in Assets."),
    "read:confluence-space.summary": ("confluence", "View spaces", "See a summary of Confluence spaces."),
    "write:confluence-space": ("confluence", "Change spaces", "Create, change and delete spaces."),
    "read:confluence-content.all": ("confluence", "View content", "See pages and blogs with their text."),
    "read:confluence-content.summary": ("confluence", "View content summaries", "See a list of content."),
    "read:confluence-content.permission": ("confluence", "View permissions", "See who may see content."),
    "write:confluence-content": ("confluence", "Change content", "Create pages, blogs and comments."),
    "write:confluence-file": ("confluence", "Upload files", "Upload attachments."),
    "readonly:content.attachment:confluence": ("confluence", "Download files", "Download attachments."),
    "read:confluence-props": ("confluence", "View properties", "See content properties."),
    "write:confluence-props": ("confluence", "Change properties", "Change content properties."),
    "read:confluence-user": ("confluence", "View Confluence people", "See people in Confluence."),
    "read:confluence-groups": ("confluence", "View groups", "See groups."),
    "write:confluence-groups": ("confluence", "Change groups", "Change groups."),
    "search:confluence": ("confluence", "Search Confluence", "Search content."),
    "manage:confluence-configuration": ("confluence", "Configure Confluence", "Change global settings."),
}

_GRANULAR = re.compile(
    r"(read|write|delete|send|validate|search|manage|moderate):[a-z][a-z.-]*:"
    r"(jira|jira-software|jira-service-management|confluence|compass|brie|admin)"
)


def is_known(scope: str) -> bool:
    """Say whether Atlassian's console could offer the scope."""
    return scope in CLASSIC or _GRANULAR.fullmatch(scope) is not None


def product_of(scope: str) -> str:
    """Return jira, confluence, another product's name, or an empty text for a scope that reaches no site."""
    if scope in CLASSIC:
        return CLASSIC[scope][0]
    match = _GRANULAR.fullmatch(scope)
    if match is None:
        return ""
    return "jira" if match[2].startswith("jira") else match[2]


def describe(scope: str) -> tuple[str, str]:
    """Return the title and the description that the consent page shows for the scope."""
    if scope in CLASSIC:
        return CLASSIC[scope][1:]
    verb, _, rest = scope.partition(":")
    thing, _, product = rest.partition(":")
    if not product:
        return scope, "A scope that the sandbox has no words for."
    return f"{verb.capitalize()} {thing.replace('-', ' ')}", f"In {product.replace('-', ' ')}."
