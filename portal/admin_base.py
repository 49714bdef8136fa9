"""What all pages of Django admin share: history that nobody edits, actions that ask first, lists that stay fast."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allauth.account.authentication import get_authentication_records
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import display_for_value
from django.core.paginator import Paginator
from django.db.models.expressions import DatabaseDefault
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import urlencode

from portal.admin_dates import DatedChangeList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.contrib.admin.views.main import ChangeList
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse

# A list shows no more than this: who looks for something narrows the list, and counting costs nothing.
MOST_ROWS = 10_000
# Actions that call a provider do so one after the other, while the browser waits.
MOST_AT_ONCE = 50


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages of the first rows, counted only so far."""

    @cached_property
    def count(self) -> int:
        """Return how many rows there are, or MOST_ROWS if there are more."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by().values("pk")[:MOST_ROWS].count()

    @property
    def is_cut(self) -> bool:
        """Tell whether there may be more rows than the list offers; admin/pagination.html says so."""
        return self.count >= MOST_ROWS


class PortalAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists that stay fast on large tables."""

    paginator = CappedPaginator
    show_full_result_count = False
    # Counting behind each filter would read the whole table once for every choice.
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    empty_value_display = "none"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list whose dates cost nothing."""
        return DatedChangeList


class ReadOnly:
    """A mixin for admins and inlines: to look at, whatever permissions somebody was given (G3)."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False


class HistoryAdmin(ReadOnly, PortalAdmin):
    """What happened: looked at, never edited."""


class ReadOnlyInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """Rows of another model below a page."""

    extra = 0
    show_change_link = True
    template = "admin/edit_inline/tabular.html"


@dataclass(frozen=True)
class Question:
    """What a confirmation page asks."""

    title: str
    text: str
    button: str
    # It cannot be undone.
    is_final: bool = False


def ask(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    rows: QuerySet[Any],
    *,
    action: str,
    question: Question,
    is_sensitive: bool = False,
) -> HttpResponse | None:
    """Return a page that asks whether to carry an action out, or None if that was answered already.

    The page posts the same action once more, for the same rows. Before a sensitive action, one that ends people's
    access or takes data away, who signed in a while ago proves again who they are: a borrowed browser must not be
    enough (G10).
    """
    if is_sensitive and not _proved_lately(request):
        text = (
            "Please prove once more who you are, then choose the rows and the action again. Nothing was done."
        )
        model_admin.message_user(request, text, messages.WARNING)
        back = urlencode({"next": request.get_full_path()})
        return redirect(f"{reverse('account_reauthenticate')}?{back}")
    if request.POST.get("confirmed") == "yes":
        return None
    is_all = request.POST.get("select_across") == "1"
    context = {
        **model_admin.admin_site.each_context(request),
        "title": question.title,
        "question": question,
        "opts": model_admin.opts,
        "action": action,
        "count": rows.count(),
        "shown": rows[:20],
        "is_all": is_all,
        "checkbox_name": ACTION_CHECKBOX_NAME,
        "selected": request.POST.getlist(ACTION_CHECKBOX_NAME)[: 1 if is_all else None],
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)


def _proved_lately(request: HttpRequest) -> bool:
    """Tell whether the person gave a password, code or passkey within the last minutes, by signing in or since."""
    records = get_authentication_records(request, request.user)
    return bool(records) and time.time() - records[-1]["at"] < settings.ACCOUNT_REAUTHENTICATION_TIMEOUT


def too_many(model_admin: admin.ModelAdmin[Any], request: HttpRequest, rows: QuerySet[Any]) -> bool:
    """Refuse an action that would keep the browser waiting too long, with a sentence."""
    if rows.count() <= MOST_AT_ONCE:
        return False
    text = f"That is more than {MOST_AT_ONCE} at once. Nothing was done: choose fewer, and do the rest afterwards."
    model_admin.message_user(request, text, messages.ERROR)
    return True


def link_to(thing: Model | None) -> str:
    """Return a link to a row's own page in Django admin."""
    if thing is None:
        return "none"
    name = f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[thing.pk]), thing)


def link_to_list(model: str, text: str, **lookups: Any) -> str:
    """Return a link to a filtered list; the model is named, as in "tokens_grant", so that links may lead anywhere."""
    return format_html(
        '<a href="{}?{}">{}</a>', reverse(f"admin:{model}_changelist"), urlencode(lookups), text
    )


def link_to_subject(kind: str, subject_id: str, text: str) -> str:
    """Return a link to what an audit event tells of, as far as it has a page; it may be gone by now."""
    for app in ("tokens", "providers", "portal"):
        try:
            return format_html(
                '<a href="{}">{}</a>', reverse(f"admin:{app}_{kind}_change", args=[subject_id]), text
            )
        except NoReverseMatch:
            continue
    return text


def worded(field: str, words: str, says: Mapping[str, str] | None = None) -> Callable[[Any, Model], str]:
    """Return a column that shows a field under other words than its name, which is for programs.

    `says` has words for its values, if these are codes. Not the model's verbose_name: migrations would follow it about.
    """

    @admin.display(description=words, ordering=field)
    def show(_: Any, row: Model) -> str:
        value = getattr(row, field)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, DatabaseDefault):  # Of a row that is still to be made.
            return PortalAdmin.empty_value_display
        value = (says or {}).get(value, value) if isinstance(value, str) else value
        return str(display_for_value(value, PortalAdmin.empty_value_display))

    return show


def in_chunks(rows: QuerySet[Any], size: int = 2000) -> Iterator[Any]:
    """Yield every row without holding them all."""
    yield from rows.iterator(chunk_size=size)
