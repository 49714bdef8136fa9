"""Percentiles from counts between bounds, and the chart of them."""

from __future__ import annotations

import datetime as dt

import pytest

from tokens import latency, latency_chart, spans

NOW = dt.datetime(2026, 3, 4, 9, 12, tzinfo=dt.UTC)


def histogram(*seconds: float) -> list[int]:
    counts = [0] * latency.SIZE
    for one in seconds:
        counts[latency.place_of(one)] += 1
    return counts


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_a_percentile_lies_between_the_bounds_of_the_answer_it_means(share):
    times = [0.03 + number / 1000 for number in range(970)]

    found = latency.percentile(histogram(*times), share)

    exact = times[round(share * len(times)) - 1]
    assert found == pytest.approx(exact, rel=0.05)


def test_nothing_has_no_percentile_and_a_time_out_is_only_known_to_be_long():
    assert latency.percentile([], 0.5) is None
    assert latency.percentile(histogram(25, 60), 0.5) == 20.0
    assert latency.in_words(20.0) == "over 20 s"
    assert latency.in_words(None) == "none yet"
    assert latency.in_words(0.0862) == "86 ms"
    assert latency.in_words(1.44) == "1.4 s"


def test_a_bound_belongs_to_the_answers_that_took_no_longer():
    assert latency.place_of(0.05) == latency.BOUNDS.index(0.05)
    assert latency.place_of(0.0501) == latency.BOUNDS.index(0.05) + 1


def test_the_three_lines_have_gaps_where_nothing_was_answered_for_long_and_names_that_stand_apart():
    starts = spans.HOUR.starts_of(NOW)
    counts = {
        starts[0]: histogram(0.05),
        starts[1]: histogram(0.05),
        starts[5]: histogram(0.05, 0.06),
        starts[6]: [],
        starts[20]: histogram(0.05),
    }

    drawn = latency_chart.draw(counts, NOW, spans.HOUR)

    assert drawn is not None
    assert [line.name for line in drawn.lines] == ["p50", "p95", "p99"]
    assert drawn.lines[0].path.count("M") == 2
    assert drawn.lines[0].path.count("L") == 2
    heights = sorted(line.label_y for line in drawn.lines)
    assert heights[1] - heights[0] >= 12
    assert heights[0] >= 8
    assert heights[2] <= drawn.floor + 5
    assert set(drawn.words) == {starts[0], starts[1], starts[5], starts[20]}


def test_without_answers_there_is_no_chart():
    assert latency_chart.draw({NOW: []}, NOW, spans.HOUR) is None
