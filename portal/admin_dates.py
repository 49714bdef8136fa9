"""The years, months and days above a list of Django admin, offered without reading the list.

Django's own looks through every row for those that there are, at each look at the list. Nothing here is older than the first
person's account; a day on which nothing happened leads to an empty list.
"""

from __future__ import annotations

import calendar
import datetime as dt
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import Min
from django.utils import formats, timezone

from portal.models import User


class DatedChangeList(ChangeList):
    """A list with dates to choose from; templates/admin/change_list.html shows them."""

    @property
    def dates(self) -> dict[str, Any]:
        """Return what Django's template of a date hierarchy needs."""
        if not self.date_hierarchy:
            return {"show": False}
        year, month, day = (
            int(self.params.get(f"{self.date_hierarchy}__{part}") or 0) for part in ("year", "month", "day")
        )
        began, last = User.objects.aggregate(began=Min("date_joined"))["began"], timezone.localdate()
        first = timezone.localdate(began) if began else last
        if not year and first.year != last.year:
            years = [self._choice(number) for number in range(first.year, last.year + 1)]
            return {"show": True, "choices": years}
        if not year:
            year, month = first.year, first.month if first.month == last.month else 0
        if not month:
            span = [(year, number) for number in range(1, 13)]
            choices = [
                self._choice(*one)
                for one in span
                if (first.year, first.month) <= one <= (last.year, last.month)
            ]
            return {"show": True, "back": self._choice() | {"title": "All dates"}, "choices": choices}
        if not day:
            month_days = calendar.Calendar().itermonthdates(year, month)
            days = [one for one in month_days if one.month == month and first <= one <= last]
            return {
                "show": True,
                "back": self._choice(year),
                "choices": [self._choice(one.year, one.month, one.day) for one in days],
            }
        chosen = {"title": self._choice(year, month, day)["title"]}
        return {"show": True, "back": self._choice(year, month), "choices": [chosen]}

    def _choice(self, year: int = 0, month: int = 0, day: int = 0) -> dict[str, str]:
        """Return a link to a year, a month or a day of the list, and its name."""
        field = self.date_hierarchy
        parts = {f"{field}__year": year, f"{field}__month": month, f"{field}__day": day}
        link = self.get_query_string(
            {name: str(value) for name, value in parts.items() if value}, [f"{field}__"]
        )
        date = dt.date(year or 1, month or 1, day or 1)
        named = formats.date_format(date, "MONTH_DAY_FORMAT" if day else "YEAR_MONTH_FORMAT")
        return {"link": link, "title": named if month else str(year)}
