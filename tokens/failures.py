"""Every way that connecting can fail, with the words of its page.

`{provider}` and `{application}` are filled in by the page. `admin` is what members of the portal read about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokens.models import ConnectSession


@dataclass(frozen=True)
class Words:
    """What an end user reads, and what the application's members read."""

    status: int
    title: str
    text: str
    admin: str
    may_try_again: bool = False


FAILURES: dict[str, Words] = {
    "cancelled": Words(
        200,
        "You did not connect {provider}",
        "Nothing was connected and {application} has no access. If {provider} said that your site's admin must "
        "authorize the app first, ask that admin, then try again.",
        "The person cancelled, or their site's admin must allow the app first.",
        may_try_again=True,
    ),
    "refused": Words(
        400,
        "{provider} did not allow it",
        "{provider} sent you back without access. Try again; if it happens again, tell the people of {application}.",
        "The provider refused the request with an error that we do not know.",
        may_try_again=True,
    ),
    "redirect_uri_not_registered": Words(
        400,
        "{application} is not set up yet",
        "{provider} does not know the address to send you back to. Please tell the people of {application}.",
        "The redirect URI is not registered in the provider's console: copy it from the provider page, to the last character.",
    ),
    "scope_not_enabled": Words(
        400,
        "{application} is not set up yet",
        "{provider} does not let {application} ask for all of this. Please tell the people of {application}.",
        "A scope that is asked for is not switched on in the provider's console, under Permissions.",
    ),
    "provider_down": Words(
        503,
        "{provider} is not answering",
        "Nothing was connected. Wait a minute, then try again.",
        "The provider did not answer, or not sensibly.",
        may_try_again=True,
    ),
    "unreadable_answer": Words(
        502,
        "{provider} answered something we do not understand",
        "Nothing was connected. Try again; if it happens again, tell the people of {application}.",
        "The provider's token endpoint did answer, but not as its catalog file says: look at [token] there. The log of "
        "the web process has the status and the error code.",
        may_try_again=True,
    ),
    "unreadable_profile": Words(
        502,
        "{provider} answered something we do not understand",
        "Nothing was connected. Try again; if it happens again, tell the people of {application}.",
        "The provider's profile is not a JSON object with the account's id where its catalog file says: look at "
        "[userinfo] there.",
        may_try_again=True,
    ),
    "wrong_client_secret": Words(
        502,
        "{application} is not set up yet",
        "{provider} does not let {application} in. That is nothing you did, and nothing was connected: please tell the people of {application}.",
        "The provider refuses the client ID or secret: replace the secret on the provider page.",
    ),
    "unreadable_secret": Words(
        500,
        "{application} is not set up yet",
        "Something is wrong with how {application} is known to {provider}. That is nothing you did: please tell the people of {application}.",
        "The stored client secret cannot be decrypted: replace it on the provider page.",
    ),
    "profile_refused": Words(
        502,
        "{application} is not set up yet",
        "{provider} does not tell {application} who you are. Please tell the people of {application}.",
        "The provider refuses the profile: switch its scope on in the console. At Atlassian, add the User Identity API "
        "with read:me under Permissions.",
    ),
    "no_site": Words(
        200,
        "There is no site to connect",
        "Your {provider} account reaches no site with what {application} asks for. Are you signed in there with the right "
        "account? If the site is new to you, ask its admin to invite you, then try again.",
        "The person's account has no site with the products that the scopes are for, or a site's admin blocks the app.",
        may_try_again=True,
    ),
    "code_refused": Words(
        400,
        "That took too long",
        "{provider} no longer accepts the answer it gave you, so nothing was connected. Try again.",
        "The provider refused the authorization code: it was used already, or too old.",
        may_try_again=True,
    ),
    "config_changed": Words(
        409,
        "The set-up has changed meanwhile",
        "The people of {application} changed its {provider} settings while you were away. Try again.",
        "The provider configuration was edited while the person was at the provider.",
        may_try_again=True,
    ),
    "provider_disabled": Words(
        403,
        "{application} has switched {provider} off",
        "Nothing can be connected just now. Please ask the people of {application}.",
        "The provider was disabled, or the application archived, while a link was out.",
    ),
    "link_expired": Words(
        410,
        "This link has expired",
        "Ask the people of {application} for a new one.",
        "The link was opened after its time.",
    ),
    "reconnect_expired": Words(
        410,
        "This link has expired",
        "It was good for an hour. Open {application} again: where it needs your {provider} account, it has a new link.",
        "The link that came with a needs_reconnect answer was opened after its hour, or after the connection had changed.",
    ),
    "already_repaired": Words(
        200,
        "This connection works again",
        "{application} can use your {provider} account, so there is nothing left to do here.",
        "The link that came with a needs_reconnect answer was opened after the connection had been repaired.",
    ),
    "connection_revoked": Words(
        410,
        "This connection was ended",
        "{application} has no access to your {provider} account any more, and a connection that was ended is not "
        "repaired. If you want a new one, start again from {application}.",
        "The link that came with a needs_reconnect answer was opened after the connection had been revoked.",
    ),
    "too_many_links": Words(
        429,
        "This was tried too often",
        "Nothing is lost. Try again in an hour, or tell the people of {application}.",
        "Links that came with needs_reconnect answers were used for this connection more often than is sensible in an hour.",
    ),
    "link_used": Words(
        410,
        "This link has been used",
        "A connect link is good for one connection. If it was not you who used it, tell the people of {application}.",
        "The link was opened again after it had been used.",
    ),
    "already_chosen": Words(
        409,
        "The sites are chosen already",
        "You did that a moment ago, perhaps in another tab. To choose others, connect again from {application}.",
        "The choice of sites was sent twice.",
    ),
    "unknown_link": Words(
        404,
        "We do not know this link",
        "Perhaps a part of it was cut off: open it as it was sent to you, or ask for a new one.",
        "A link was opened that is not ours.",
    ),
    "not_this_browser": Words(
        404,
        "There is nothing to see here",
        "A connection is shown only in the browser in which it was made. Open this page there.",
        "The page of a connection was opened in another browser.",
    ),
    "abandoned": Words(
        410,
        "This link has expired",
        "The sites were not chosen in time, so nothing was connected. Ask the people of {application} for a new link.",
        "The person did not choose sites in time.",
    ),
    "state_expired": Words(
        410,
        "That took too long",
        "More than ten minutes went by at {provider}, so nothing was connected. Try again.",
        "The person came back after more than ten minutes.",
        may_try_again=True,
    ),
    "too_many_tries": Words(
        429,
        "This link was tried too often",
        "Ask the people of {application} for a new one.",
        "The link's button was pressed more often than is sensible.",
    ),
    "other_browser": Words(
        403,
        "This was started in another browser",
        "For your safety a connection must be finished in the browser that started it. Open the link there, or start "
        "again here from your application.",
        "The answer came back in another browser than the one that started.",
    ),
    "other_login": Words(
        403,
        "This belongs to another account",
        "A test connection can be finished only by the member who started it, signed in as the same person.",
        "A test connection came back while another member was signed in.",
    ),
    "unknown_state": Words(
        400,
        "We do not know this answer",
        "It was not asked for here, or is too old. Start again from your application.",
        "A callback named a state that is not ours.",
    ),
    "wrong_issuer": Words(
        400,
        "The answer came from somewhere else",
        "It names another sender than {provider}. Nothing was connected. Please tell the people of {application}.",
        "The callback's `iss` is missing or not the provider's.",
    ),
    "bad_callback": Words(
        400,
        "The answer is incomplete",
        "{provider} sent you back without what is needed. Try again.",
        "The callback had neither a code nor an error, or had a parameter twice.",
        may_try_again=True,
    ),
}


class ConnectFailedError(Exception):
    """Connecting failed; `code` is a key of FAILURES, `session` is set if the browser may know which it was."""

    def __init__(self, code: str, *, session: ConnectSession | None = None) -> None:
        # A catalog file may name a code that we have no words for.
        self.code = code if code in FAILURES else "refused"
        self.session = session
        super().__init__(code)

    @property
    def words(self) -> Words:
        """Return the words for people."""
        return FAILURES[self.code]
