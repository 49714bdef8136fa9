"""When a grant is refreshed: arithmetic that must hold for every provider and every life."""

from __future__ import annotations

import uuid
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from providers.oauth import TokenSet
from providers.spec import RefreshPolicy, Rotation
from tokens import schedule

ATLASSIAN = RefreshPolicy(
    Rotation.GRACE, leeway=timedelta(minutes=10), ahead=timedelta(minutes=8), companion=timedelta(minutes=10)
)
STRICT = RefreshPolicy(Rotation.STRICT)
STATIC = RefreshPolicy(Rotation.STATIC)

lives = st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=90))
grants = st.uuids(version=4)


def token_set(lifetime: timedelta | None) -> TokenSet:
    return TokenSet("access", "refresh", lifetime, None)


@given(lives, grants)
def test_a_refresh_is_due_before_the_end_and_ahead_of_it_by_no_more_than_the_leeway(
    life: timedelta, grant_id: uuid.UUID
) -> None:
    due = schedule.due_after(ATLASSIAN, grant_id, life)

    assert timedelta(0) <= due < life
    assert life - due <= ATLASSIAN.leeway


@given(lives, grants)
def test_a_short_life_is_used_for_more_than_half(life: timedelta, grant_id: uuid.UUID) -> None:
    assert schedule.due_after(STRICT, grant_id, life) > life / 2


@given(lives, grants)
def test_without_a_refresh_token_access_lasts_to_its_end(life: timedelta, grant_id: uuid.UUID) -> None:
    assert schedule.due_after(RefreshPolicy(Rotation.NONE), grant_id, life) == life


@given(grants)
def test_jitter_is_the_same_for_the_same_grant(grant_id: uuid.UUID) -> None:
    most = timedelta(minutes=1)

    assert schedule.jitter(grant_id, most) == schedule.jitter(grant_id, most)
    assert timedelta(0) <= schedule.jitter(grant_id, most) < most


def test_jitter_spreads_grants_of_one_minute() -> None:
    spread = {schedule.jitter(uuid.uuid4(), timedelta(minutes=1)).seconds // 10 for _ in range(200)}

    assert len(spread) == 6


@given(st.integers(0, 20), st.timedeltas(timedelta(0), timedelta(minutes=9)))
def test_inside_a_leeway_the_next_try_is_inside_it_too(tries: int, inflight_for: timedelta) -> None:
    pause = schedule.pause_after_ambiguous(
        ATLASSIAN, tries=tries, inflight_for=inflight_for, access_left=timedelta(0)
    )

    assert inflight_for + pause <= ATLASSIAN.leeway - schedule.LEEWAY_MARGIN or inflight_for > timedelta(
        minutes=9
    )


def test_the_first_tries_after_a_lost_answer_come_soon() -> None:
    pauses = [
        schedule.pause_after_ambiguous(
            ATLASSIAN, tries=tries, inflight_for=timedelta(0), access_left=timedelta(0)
        ).seconds
        for tries in range(4)
    ]

    assert pauses == [2, 10, 30, 90]


def test_without_a_leeway_the_access_token_is_used_up_before_the_one_more_try() -> None:
    pause = schedule.pause_after_ambiguous(
        STRICT, tries=0, inflight_for=timedelta(0), access_left=timedelta(minutes=7)
    )

    assert pause == timedelta(minutes=7)


def test_a_static_refresh_token_is_tried_again_at_once() -> None:
    pause = schedule.pause_after_ambiguous(
        STATIC, tries=0, inflight_for=timedelta(0), access_left=timedelta(minutes=7)
    )

    assert pause == timedelta(seconds=2)


def test_an_answer_without_a_lifetime_lives_as_the_catalog_says() -> None:
    assert schedule.access_lifetime(ATLASSIAN, token_set(None)) == timedelta(hours=1)
    assert schedule.access_lifetime(RefreshPolicy(Rotation.NONE), token_set(None)) is None
    assert schedule.access_lifetime(ATLASSIAN, token_set(timedelta(minutes=2))) == timedelta(minutes=2)


def test_a_short_leeway_is_used_as_well() -> None:
    policy = RefreshPolicy(Rotation.GRACE, leeway=timedelta(seconds=20))
    asked = [timedelta(0)]
    for tries in range(3):
        pause = schedule.pause_after_ambiguous(
            policy, tries=tries, inflight_for=asked[-1], access_left=timedelta(minutes=30)
        )
        asked.append(asked[-1] + pause)

    assert [moment for moment in asked[1:] if moment < policy.leeway] == [
        timedelta(seconds=2),
        timedelta(seconds=12),
        timedelta(seconds=15),
    ]
