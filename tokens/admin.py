"""Django admin of grants and the sites they reach. Nothing here is edited (G3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q

from portal.admin_base import HistoryAdmin, ReadOnlyInline, link_to, link_to_list, worded
from portal.admin_dates import DatedChangeList
from portal.admin_filters import worded_filter
from providers.admin import providers_in_use
from providers.models import ProviderConfig

# Django looks for admin.py alone: admin_journal registers the rest of this app.
from tokens import admin_journal, browse  # noqa: F401
from tokens.admin_actions import GrantActions, let_refused_end, with_last_use
from tokens.health import FAILURES
from tokens.models import Grant, Site
from tokens.state import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest


# The app below knows of no grants, so what is done with those of a configuration comes from here.
admin.site.get_model_admin(ProviderConfig).actions = (let_refused_end,)


class StateFilter(admin.SimpleListFilter):
    """The same words as on the members' pages."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Offer the states."""
        return [(value, word) for value, (word, _) in browse.STATUS_FILTERS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Grant]) -> QuerySet[Grant]:
        """Keep the grants in the chosen state."""
        chosen = browse.STATUS_FILTERS.get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


class SiteInline(ReadOnlyInline):
    """The sites that a grant reaches."""

    model = Site
    fields = ("name", "address", "shown_id", "products", "is_chosen")
    readonly_fields = fields
    address = worded("url", "URL")
    shown_id = worded("cloud_id", "cloud ID")


class GrantChangeList(DatedChangeList):
    """A list that looks up sites and uses for the rows it shows, not for those it counts."""

    def get_results(self, request: HttpRequest) -> None:
        """Bring along what the columns need."""
        super().get_results(request)
        rows = with_last_use(self.result_list)
        self.result_list = rows.prefetch_related("application", "provider_config__application")


@admin.register(Grant)
class GrantAdmin(GrantActions, HistoryAdmin):
    """Who has access to what, since when, who used it."""

    list_display = (
        "end_user",
        "application",
        "provider",
        "account",
        "sites_reached",
        "state",
        "since",
        "last_used",
        "scopes",
    )
    list_filter = (StateFilter, ("provider_config__provider_id", worded_filter("provider", providers_in_use)))
    search_fields = ("search_text",)
    search_help_text = (
        "Every word is looked for in end user, account, e-mail, site and application; or a connection's id."
    )
    date_hierarchy = "connected_at"
    # GrantChangeList fetches them for its page: joined, they would be sorted along with every row there is.
    list_select_related = ()
    inlines = (SiteInline,)
    fieldsets = (
        ("Who", {"fields": ("application_link", "provider", "end_user", "label", "account")}),
        ("What", {"fields": ("state", "cause", "granted_scopes", "not_granted")}),
        (
            "Since when",
            {
                "fields": (
                    "connected_at",
                    "consented_at",
                    "confirmed_at",
                    "last_used",
                    "revoked_at",
                    "at_provider",
                )
            },
        ),
        (
            "Refresh",
            {
                "fields": (
                    "generation",
                    "refreshed_at",
                    "runs_out",
                    "refresh_due_at",
                    "next_attempt_at",
                    "claimed_until",
                    "under_way_since",
                    "last_failure",
                    "failures",
                    "ends_unused",
                    "ends",
                )
            },
        ),
        ("More", {"fields": ("attempts", "events", "sessions", "shown_id")}),
    )
    readonly_fields = (
        "application_link",
        "provider",
        "account",
        "state",
        "not_granted",
        "last_used",
        "attempts",
        "events",
        "sessions",
        "shown_id",
        "generation",
        "claimed_until",
        "under_way_since",
        "last_failure",
        "failures",
        "connected_at",
        "at_provider",
        "runs_out",
        "ends_unused",
        "ends",
    )
    shown_id = worded("id", "ID")
    generation = worded("gen", "generation")
    claimed_until = worded("claim_until", "refresh under way until")
    at_provider = worded("upstream_revocation", "revocation at the provider")
    runs_out = worded("access_expires_at", "access token runs out")
    ends_unused = worded("idle_deadline", "ends unless used before")
    ends = worded("absolute_deadline", "ends in any case")
    under_way_since = worded("inflight_since", "call under way since")
    failures = worded("fail_count", "failures in a row")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list that looks things up for its page only."""
        return GrantChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Grant | None:
        """Return the grant with what its page shows of it."""
        grant = super().get_object(request, object_id, from_field)
        if grant is None:
            return None
        grants = Grant.objects.select_related("application", "provider_config__application")
        found: Grant = with_last_use(grants).get(pk=grant.pk)
        return found

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Grant], search_term: str
    ) -> tuple[QuerySet[Grant], bool]:
        """Look for every word, in the grant's own text or its application's name."""
        for word in search_term.split()[:8]:
            queryset = queryset.filter(
                Q(search_text__contains=word.lower())
                | Q(application__name__icontains=word)
                | Q(application__slug=word.lower())
                | Q(account_id=word)
                | Q(id__iexact=word)
            )
        return queryset, False

    @admin.display(description="application")
    def application_link(self, grant: Grant) -> str:
        """Lead to the application."""
        return link_to(grant.application)

    @admin.display(description="provider", ordering="provider_config__provider_id")
    def provider(self, grant: Grant) -> str:
        """Name the provider, also when its catalog file is gone."""
        return grant.provider_config.provider_name

    @admin.display(description="account", ordering="account_name")
    def account(self, grant: Grant) -> str:
        """Name the account as well as we can."""
        return ", ".join(filter(None, [grant.account_name, grant.account_email])) or grant.account_id

    @admin.display(description="sites")
    def sites_reached(self, grant: Grant) -> str:
        """Name the chosen sites."""
        return ", ".join(grant.site_names)  # type: ignore[attr-defined]

    @admin.display(description="state", ordering="status")
    def state(self, grant: Grant) -> str:
        """Say how it stands, in the words of the members' pages."""
        return describe(grant, grant.now).word  # type: ignore[attr-defined]

    @admin.display(description="since", ordering="connected_at")
    def since(self, grant: Grant) -> str:
        """Say when it was connected."""
        return f"{grant.connected_at:%Y-%m-%d}"

    @admin.display(description="last used", ordering="used_at")
    def last_used(self, grant: Grant) -> str:
        """Say when a token was last handed out, and to whom."""
        if grant.used_at is None:
            return "never"
        by = grant.last_used_by  # type: ignore[attr-defined]
        return f"{grant.used_at:%Y-%m-%d %H:%M}" + (f" by {by}" if by else "")

    @admin.display(description="last failure", ordering="fail_outcome")
    def last_failure(self, grant: Grant) -> str:
        """Say what the last try came to, as the Health page does."""
        return FAILURES[grant.fail_outcome][0] if grant.fail_outcome in FAILURES else grant.fail_outcome

    @admin.display(description="scopes")
    def scopes(self, grant: Grant) -> str:
        """Name the granted scopes."""
        return " ".join(grant.granted_scopes)

    @admin.display(description="asked for, not granted")
    def not_granted(self, grant: Grant) -> str:
        """Name what was asked for in vain."""
        return " ".join(grant.missing_scopes)

    @admin.display(description="refresh attempts")
    def attempts(self, grant: Grant) -> str:
        """Lead to every attempt to refresh it."""
        return link_to_list("tokens_refreshattempt", "refresh attempts", grant__id__exact=grant.pk)

    @admin.display(description="audit log")
    def events(self, grant: Grant) -> str:
        """Lead to everything that was done with it."""
        return link_to_list("portal_auditevent", "audit events", subject_kind="grant", subject_id=grant.pk)

    @admin.display(description="connect sessions")
    def sessions(self, grant: Grant) -> str:
        """Lead to how it came to be."""
        return link_to_list("tokens_connectsession", "connect sessions", grant__id__exact=grant.pk)


@admin.register(Site)
class SiteAdmin(HistoryAdmin):
    """Sites that grants reach."""

    list_display = ("name", "address", "product_names", "is_chosen", "grant_link", "application")
    list_filter = ("is_chosen",)
    list_select_related = ("grant__application",)
    ordering = ("-id",)
    search_fields = ("name", "url", "=cloud_id", "grant__end_user")
    fields = ("name", "address", "shown_id", "product_names", "scopes", "is_chosen", "grant_link")
    readonly_fields = ("address", "shown_id", "product_names", "grant_link")
    address = worded("url", "URL")
    shown_id = worded("cloud_id", "cloud ID")

    @admin.display(description="products")
    def product_names(self, site: Site) -> str:
        """Name the products."""
        return ", ".join(site.products)

    @admin.display(description="connection")
    def grant_link(self, site: Site) -> str:
        """Lead to the grant."""
        return link_to(site.grant)

    @admin.display(description="application")
    def application(self, site: Site) -> str:
        """Name the application."""
        return str(site.grant.application)
