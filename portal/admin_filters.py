"""Filters of Django admin in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.contrib.admin.views.main import ChangeList
    from django.db.models import Field, Model
    from django.http import HttpRequest


class WordedFilter(admin.FieldListFilter):
    """Offers what a field may hold, in words. Django itself would read every row for it, and show codes."""

    heading: ClassVar[str]
    source: ClassVar[Callable[[], Mapping[str, str]]]
    lookup: ClassVar[str] = "exact"

    def __init__(
        self,
        field: Field[Any, Any],
        request: HttpRequest,
        params: dict[str, Any],
        model: type[Model],
        model_admin: Any,
        field_path: str,
    ) -> None:
        self.lookup_kwarg = f"{field_path}__{self.lookup}"
        super().__init__(field, request, params, model, model_admin, field_path)
        self.title = self.heading
        self.words = type(self).source()

    def expected_parameters(self) -> list[str | None]:
        """Return what it reads of the address."""
        return [self.lookup_kwarg]

    def has_output(self) -> bool:
        """Tell whether there is something to choose."""
        return bool(self.words)

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Offer all, and each value in words."""
        values: Any = self.used_parameters.get(self.lookup_kwarg, [])
        chosen = {str(value) for value in values}
        yield {
            "selected": not chosen,
            "query_string": changelist.get_query_string(remove=[self.lookup_kwarg]),
            "display": "All",
        }
        for value, word in self.words.items():
            yield {
                "selected": value in chosen,
                "query_string": changelist.get_query_string({self.lookup_kwarg: value}),
                "display": word,
            }


def worded_filter(
    heading: str, words: Mapping[str, str] | Callable[[], Mapping[str, str]]
) -> type[WordedFilter]:
    """Return a filter by a field's values; `words` has a word for each, or is asked at each look."""
    source = words if callable(words) else lambda: words
    return type("WordedFilter", (WordedFilter,), {"heading": heading, "source": staticmethod(source)})


def whether_filter(heading: str) -> type[WordedFilter]:
    """Return a filter by whether a field is set, such as the time at which something ended."""
    words = {"False": "Yes", "True": "No"}
    return type(
        "WhetherFilter",
        (WordedFilter,),
        {"heading": heading, "source": staticmethod(lambda: words), "lookup": "isnull"},
    )
