"""`grants/import` and `grants/export`: in from another store, and out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, transaction
from django.http import JsonResponse

from tokens.api.fields import Fields, Flag, Notes, Rows, Text, Texts, wrong
from tokens.api.problems import BadFieldError, ExportRunningError
from tokens.api.shapes import ExportedGrant, grant_shape
from tokens.browse import is_cursor, page_of
from tokens.clock import database_now
from tokens.errors import AuditUnavailableError
from tokens.export_grants import still_running, take_out
from tokens.import_grants import Incoming, bring_in, existing
from tokens.models import GrantStatus

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from tokens.api.door import Call
    from tokens.api.fields import Field
    from tokens.api.shapes import ImportedRow

MOST_IMPORTED = 500
MOST_EXPORTED = 100
# In bytes: as much as Django reads at all.
LARGEST_IMPORT = 2_500_000
ROW: dict[str, Field] = {
    "end_user": Text(about="Your own id of the person.", is_required=True),
    "provider": Text(about="Such as `atlassian`.", most=50, is_required=True),
    "account_id": Text(about="The account's id at the provider.", is_required=True),
    "refresh_token": Text(about="It is sealed at once.", most=8192, is_required=True),
    "label": Text(about="A name for people.", least=0),
    "metadata": Notes(about="Notes of your own, names and texts."),
    "scopes": Texts(about="What was granted. Left out: all that are configured."),
}
IMPORT_FIELDS: dict[str, Field] = {
    "dry_run": Flag(about="Only tell what would become of each row."),
    "rows": Rows(about="The connections.", row=ROW, most=MOST_IMPORTED, is_required=True),
}


def bring_all_in(call: Call) -> JsonResponse:
    """Bring connections in from another store, up to 500 a call.

    Each row is judged by itself, and what is there already stays as it is, so a call may be repeated. The refresh tokens
    are sealed at once; the engine refreshes each, then looks whose it is and which sites it reaches. A token that is
    not good, or somebody else's, ends as `needs_reconnect`. Nothing else may refresh these tokens any more. With `dry_run`
    nothing is stored.
    """
    configs = {config.provider_id: config for config in call.configs()}
    is_dry = call.fields["dry_run"]
    rows = [
        _imported(call, configs, number, row, is_dry=is_dry) for number, row in enumerate(call.fields["rows"])
    ]
    counts = {
        result: sum(row["result"] == result for row in rows) for result in ("imported", "exists", "refused")
    }
    return JsonResponse({"dry_run": is_dry, **counts, "rows": rows})


def _imported(
    call: Call, configs: dict[str, ProviderConfig], number: int, row: dict[str, Any], *, is_dry: bool
) -> ImportedRow:
    try:
        fields = Fields(row, ROW)
        config = configs.get(fields["provider"])
        if config is None:
            raise wrong("provider", "is not one of this application that the key may be used for.")
        scopes = fields.given("scopes")
        if unknown := set(scopes or []) - set(config.scopes):
            raise wrong("scopes", f"has some that are not configured: {', '.join(sorted(unknown)[:5])}.")
        incoming = Incoming(
            end_user=fields["end_user"],
            account_id=fields["account_id"],
            refresh_token=fields["refresh_token"],
            label=fields["label"],
            metadata=fields["metadata"] or {},
            scopes=scopes,
        )
    except BadFieldError as error:
        return {
            "row": number,
            "result": "refused",
            "grant": None,
            "field": error.members["field"],
            "detail": error.message,
        }
    if is_dry:
        found = existing(config, incoming)
        grant, is_new = found, found is None
    else:
        grant, is_new = bring_in(config, incoming, actor=call.actor)
    return {
        "row": number,
        "result": "imported" if is_new else "exists",
        "grant": str(grant.pk) if grant else None,
        "field": None,
        "detail": "",
    }


def take_all_out(call: Call) -> JsonResponse:
    """Export grants with their refresh tokens, a page at a time, to move them to another store.

    A rotating refresh token lives in one place: switch the provider off first, so that this portal refreshes it no more.
    Each grant that leaves is on record before the answer. One that waits for its confirmation is nobody's yet and stays.
    """
    fields, configs = call.fields, call.configs()
    if fields["provider"]:
        configs = configs.filter(provider_id=fields["provider"])
    if running := still_running(configs):
        raise ExportRunningError(providers=running)
    if fields["cursor"] and not is_cursor(fields["cursor"]):
        raise wrong("cursor", "must be the `next_cursor` of an earlier answer.")
    given = [GrantStatus.ACTIVE, GrantStatus.NEEDS_RECONNECT]
    grants = call.grants().filter(status__in=given, provider_config__in=configs)
    grants = grants.select_related("application", "provider_config__application")
    page = page_of(grants, older=fields["cursor"], size=fields["limit"])
    now = database_now()
    exported: list[ExportedGrant] = []
    try:
        with transaction.atomic():
            for grant in page.rows:
                token, problem = take_out(grant, now=now, actor=call.actor)
                exported.append({**grant_shape(grant), "refresh_token": token, "problem": problem})
    except DatabaseError:
        raise AuditUnavailableError from None
    return JsonResponse({"grants": exported, "next_cursor": page.older or None})
