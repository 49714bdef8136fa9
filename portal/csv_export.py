"""CSV files that are safe to open in a spreadsheet, sent while they are made."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from django.http import StreamingHttpResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# What makes a spreadsheet take a cell for a formula, the full-width forms too (OWASP, "CSV injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def safe_cell(value: object) -> str:
    """Return a cell that no spreadsheet computes: what begins like a formula gets an apostrophe in front (G9)."""
    text = "" if value is None else str(value)
    is_formula = text.lstrip().startswith(FORMULA_STARTS) or text[:1] in {"\t", "\r", "\n"}
    return f"'{text}" if is_formula else text


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, line: str) -> str:
        return line


def csv_response(
    filename: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> StreamingHttpResponse:
    """Answer with a CSV file; rows are made while they are sent, so its length does not matter."""

    def lines() -> Iterator[str]:
        writer = csv.writer(_Echo())
        yield writer.writerow(header)
        for row in rows:
            yield writer.writerow([safe_cell(cell) for cell in row])

    return StreamingHttpResponse(
        lines(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )
