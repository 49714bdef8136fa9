"""What staff may do with grants in Django admin: each asks first, is audited, and has a permission of its own (G4)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import CharField, Count, OuterRef, Subquery
from django.db.models.functions import Cast, Now

from portal.admin_base import Question, ask, in_chunks, too_many
from portal.audit import record, staff_of
from portal.csv_export import csv_response
from portal.models import Application, AuditEvent, Event
from providers.spec import Outcome
from tokens import browse
from tokens.errors import TokenError
from tokens.guard import let_end
from tokens.models import Grant, GrantStatus, Trigger
from tokens.refresh import refresh_now
from tokens.results import FENCED
from tokens.revoke import revoke
from tokens.state import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from providers.models import ProviderConfig

EXPORT_COLUMNS = (
    "application", "provider", "end user", "label", "account id", "account", "e-mail", "sites", "state",
    "connected since", "last used", "last used by", "scopes", "not granted", "connection",
)  # fmt: skip


class GrantActions(admin.ModelAdmin):  # type: ignore[type-arg]
    """The actions of the list of grants."""

    actions = ("refresh", "revoke", "export")

    def has_refresh_permission(self, request: HttpRequest) -> bool:
        """Ask for a permission of its own."""
        return request.user.has_perm("tokens.refresh_grant")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Ask for a permission of its own."""
        return request.user.has_perm("tokens.revoke_grant")

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Ask for a permission of its own."""
        return request.user.has_perm("tokens.export_grant")

    @admin.action(description="Refresh now", permissions=["refresh"])
    def refresh(self, request: HttpRequest, grants: QuerySet[Grant]) -> HttpResponseBase | None:
        """Refresh each, and count what came of it."""
        if too_many(self, request, grants):
            return None
        question = Question(
            "Refresh now?", "The provider is asked for a new access token for each.", "Refresh now"
        )
        if page := ask(self, request, grants, action="refresh", question=question):
            return page
        outcomes: Counter[str] = Counter()
        for grant in grants:
            record(
                Event.GRANT_REFRESH_REQUESTED,
                actor=staff_of(request),
                application=grant.application,
                subject=grant,
            )
            try:
                outcomes[refresh_now(grant, trigger=Trigger.STAFF).outcome] += 1
            except TokenError as error:
                outcomes[error.code] += 1
        said = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in outcomes.most_common())
        is_well = set(outcomes) <= {Outcome.OK, FENCED}
        self.message_user(
            request, f"Refresh: {said or 'nothing to do'}.", messages.SUCCESS if is_well else messages.WARNING
        )
        return None

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, grants: QuerySet[Grant]) -> HttpResponseBase | None:
        """Take each back."""
        if too_many(self, request, grants):
            return None
        question = Question(
            "Revoke these connections?",
            "Their tokens are erased at once, which cannot be undone. The provider is asked to end access where it lets "
            "us; Atlassian does not, so there the app stays listed until the person removes it.",
            "Revoke",
            is_final=True,
        )
        if page := ask(self, request, grants, action="revoke", question=question, is_sensitive=True):
            return page
        alive = [grant for grant in grants if grant.status != GrantStatus.REVOKED]
        answers = Counter(revoke(grant, actor=staff_of(request)).upstream_revocation for grant in alive)
        said = "; ".join(f"{count}: {answer}" for answer, count in answers.most_common())
        self.message_user(
            request,
            f"Revoked {len(alive)}; their tokens are erased. Upstream, {said}."
            if alive
            else "All of them were revoked before.",
            messages.SUCCESS,
        )
        return None

    @admin.action(description="Export as CSV", permissions=["export"])
    def export(self, request: HttpRequest, grants: QuerySet[Grant]) -> HttpResponseBase:
        """Send the chosen grants as CSV, and write that down in each application's audit log."""
        question = Question(
            "Export connections?",
            "The file says who gave access to what. The export is written to the audit log of each application in it.",
            "Export",
        )
        if page := ask(self, request, grants, action="export", question=question, is_sensitive=True):
            return page
        counts = dict(grants.order_by().values_list("application").annotate(count=Count("pk")))
        for application in Application.objects.filter(pk__in=counts):
            record(
                Event.EXPORTED,
                actor=staff_of(request),
                application=application,
                subject_name="connections",
                connections=counts[application.pk],
            )
        return csv_response("connections.csv", EXPORT_COLUMNS, _rows(grants))


@admin.action(description="Let refused connections end", permissions=["change"])
def let_refused_end(
    model_admin: admin.ModelAdmin[ProviderConfig], request: HttpRequest, configs: QuerySet[ProviderConfig]
) -> HttpResponseBase | None:
    """Say that connections which were refused all at once really are over; staff who may switch a provider off may."""
    question = Question(
        "Let refused connections end?",
        "The provider refused too many of their connections at once to believe it. For two hours from now each connection that it "
        "refuses ends at once, and its person must connect again. If it only has a bad day, wait instead: everything goes on by "
        "itself.",
        "Let them end",
        is_final=True,
    )
    if page := ask(
        model_admin, request, configs, action="let_refused_end", question=question, is_sensitive=True
    ):
        return page
    configs = configs.select_related("application")
    count = sum(let_end(config, actor=staff_of(request)) for config in configs)
    if count:
        text = f"Refused connections end now, of {count} provider configuration{'' if count == 1 else 's'}."
        model_admin.message_user(request, text, messages.SUCCESS)
    else:
        model_admin.message_user(request, "No connection's end is held there, so nothing was changed.")
    return None


def with_last_use(grants: QuerySet[Grant]) -> QuerySet[Any]:
    """Bring site_names, the clock as `now`, and who used it last as `last_used_by`, in the same statement."""
    # By the index of what happened to one thing, whose order this is. With one kind, by which the planner need not order, it
    # reads the log backwards instead where few connections have most of the events: for one that was never used, all of it.
    hand_outs = AuditEvent.objects.filter(
        subject_kind__in=("grant", ""),
        subject_id=Cast(OuterRef("pk"), CharField()),
        event__in=(Event.TOKEN_HANDED_OUT, Event.PROXY_CALLED),
    ).order_by("subject_kind", "subject_id", "-id")
    return browse.with_site_names(grants).annotate(
        now=Now(), last_used_by=Subquery(hand_outs.values("actor_name")[:1])
    )


def _rows(grants: QuerySet[Grant]) -> Iterable[list[object]]:
    grants = with_last_use(grants.select_related("application", "provider_config__application"))
    for grant in in_chunks(grants):
        yield [
            grant.application.name, grant.provider_config.provider_name, grant.end_user, grant.label, grant.account_id,
            grant.account_name, grant.account_email, ", ".join(grant.site_names), describe(grant, grant.now).word,
            grant.connected_at.isoformat(), grant.used_at.isoformat() if grant.used_at else "", grant.last_used_by,
            " ".join(grant.granted_scopes), " ".join(grant.missing_scopes), grant.pk,
        ]  # fmt: skip
