"""The chart's numbers."""

from __future__ import annotations

import datetime as dt

import pytest

from tokens import chart, spans

NOW = dt.datetime(2026, 3, 4, 9, 12, tzinfo=dt.UTC)


def test_the_bars_are_the_48_half_hours_up_to_now():
    drawn = chart.draw({}, NOW)

    assert len(drawn.bars) == 48
    assert drawn.bars[-1].starts_at == dt.datetime(2026, 3, 4, 9, 0, tzinfo=dt.UTC)
    assert [mark.text for mark in drawn.hours] == ["12:00", "18:00", "00:00", "06:00"]


def test_an_empty_day_is_said_and_divides_by_nothing():
    assert chart.draw({}, NOW).sentence == "No refreshes in the last 24 hours."


def test_a_failure_stands_on_top_of_what_went_well_with_a_gap():
    start = spans.DAY.starts_of(NOW)[3]

    bar = chart.draw({start: (10, 5)}, NOW).bars[3]

    assert bar.failed_top + bar.failed_height < bar.ok_top
    assert bar.ok_height == pytest.approx(2 * bar.failed_height, abs=0.2)


def test_one_failure_among_thousands_can_still_be_seen():
    start = spans.DAY.starts_of(NOW)[3]

    bar = chart.draw({start: (9_000, 1)}, NOW).bars[3]

    assert bar.failed_height == 2.0
    assert bar.failed_top >= 0


@pytest.mark.parametrize(
    ("most", "top"), [(1, "2"), (3, "4"), (9, "10"), (11, "12"), (900, "1,000"), (6_001, "8,000")]
)
def test_the_axis_ends_at_a_round_number(most, top):
    drawn = chart.draw({spans.DAY.starts_of(NOW)[0]: (most, 0)}, NOW)

    assert drawn.levels[0].text == top


def test_the_sentence_names_the_hours_of_failures():
    starts = spans.DAY.starts_of(NOW)

    drawn = chart.draw({starts[0]: (5, 0), starts[2]: (5, 1), starts[4]: (0, 2)}, NOW)

    assert drawn.sentence == (
        "13 refreshes in the last 24 hours, by half hour; 3 failed, between 10:30 and 12:00 UTC."
    )


@pytest.mark.parametrize("span", spans.SPANS.values(), ids=lambda span: span.name)
def test_no_label_is_cut_at_the_edge(span):
    for minutes in range(0, 24 * 60, 10):
        drawn = chart.draw({}, NOW + dt.timedelta(minutes=minutes), span)

        assert drawn.hours
        assert all(0 < mark.x <= drawn.width - 34 for mark in drawn.hours)


def test_an_axis_of_rates_reads_well_however_small_they_are():
    start = spans.WEEK.starts_of(NOW)[3]

    for count, levels in ((1, ["0.01", "0.005"]), (240, ["1", "0.5"]), (2_400_000, ["10k", "5,000"])):
        drawn = chart.draw({start: (count, 0)}, NOW, spans.WEEK, is_rate=True)

        assert [mark.text for mark in drawn.levels] == levels
