"""CSV files that no spreadsheet computes."""

from __future__ import annotations

import csv

import pytest

from portal.csv_export import csv_response, safe_cell


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "\uff1d1+1", '=HYPERLINK("x")']
)
def test_what_begins_like_a_formula_is_neutralised_g9(text):
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize(
    ("value", "cell"), [("Acme", "Acme"), (None, ""), (7, "7"), ("a=b", "a=b"), ("", "")]
)
def test_everything_else_stays_as_it_is(value, cell):
    assert safe_cell(value) == cell


def test_commas_quotes_and_lines_survive():
    response = csv_response("a.csv", ["one", "two"], [['a,"b"', "c\nd"]])

    text = b"".join(response.streaming_content).decode()
    assert list(csv.reader(text.splitlines(keepends=True))) == [["one", "two"], ['a,"b"', "c\nd"]]
    assert response["Content-Disposition"] == 'attachment; filename="a.csv"'
