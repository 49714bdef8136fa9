"""Owners are told by e-mail, once, when a provider stops working, and once when it works again."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection

from portal.audit import SYSTEM
from portal.models import Instance, Role
from providers.configure import disable, enable
from providers.models import PROBLEMS, ProviderAlert, ProviderConfig
from providers.tasks import tell_owners
from tests.factories import CANARY, MembershipFactory, ProviderConfigFactory, database_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)


class DownBackend(EmailBackend):
    """A mail server that does not answer."""

    def send_messages(self, messages: Any) -> int:
        raise ConnectionRefusedError


DOWN = f"{__name__}.DownBackend"


@pytest.fixture
def config() -> ProviderConfig:
    config: ProviderConfig = ProviderConfigFactory.create(
        application__name="Acme Tasks", application__slug="acme-tasks"
    )
    for role, email in ((Role.OWNER, "jo"), (Role.OWNER, "sam"), (Role.ADMIN, "alex")):
        MembershipFactory.create(
            application=config.application, role=role, user__email=f"{email}@acme.example"
        )
    gone = MembershipFactory.create(application=config.application, user__email="gone@acme.example")
    gone.user.is_active = False
    gone.user.save()
    return config


def half_an_hour_later() -> None:
    ProviderAlert.objects.update(problem_told_at=database_now() - timedelta(minutes=31), next_try_at=None)


def subjects() -> list[str]:
    return [message.subject for message in mail.outbox]


def test_a_provider_that_stops_and_works_again_is_told_once_each_to_owners_alone(config):
    config.note_problem("client_refused")
    for _ in range(3):
        tell_owners()
        config.note_problem("client_refused")
    config.note_recovery()
    for _ in range(3):
        tell_owners()

    assert subjects() == ["Atlassian does not work for Acme Tasks", "Atlassian works again for Acme Tasks"]
    assert {tuple(message.to) for message in mail.outbox} == {("jo@acme.example", "sam@acme.example")}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_mail_says_what_happened_what_it_means_and_what_to_do(config, problem, settings):
    config.note_problem(problem)

    tell_owners()

    text = mail.outbox[0].body
    config.refresh_from_db()
    assert config.problem_message in text
    assert "What it means for your users: " in text
    assert "What to do: " in text
    assert f"{settings.PUBLIC_URL}/applications/acme-tasks/providers/atlassian/" in text
    assert f"{settings.PUBLIC_URL}/applications/acme-tasks/health/" in text
    assert "&#" not in text
    assert CANARY not in text


def test_what_was_over_before_anybody_was_told_is_no_mail(config):
    config.note_problem("unreachable")
    config.note_recovery()

    tell_owners()

    assert mail.outbox == []


def test_a_provider_that_comes_and_goes_is_one_pair_of_mails_in_half_an_hour(config):
    for _ in range(5):
        config.note_problem("unreachable")
        tell_owners()
        config.note_recovery()
        tell_owners()

    assert len(mail.outbox) == 2
    config.note_problem("unreachable")
    tell_owners()
    half_an_hour_later()
    tell_owners()
    # It lasts, so it is told after all.
    assert subjects()[2:] == ["Atlassian does not work for Acme Tasks"]


def test_another_problem_is_told_too(config):
    config.note_problem("unreachable")
    tell_owners()
    ProviderConfig.objects.update(problem_code="client_refused", problem_message="refused now")
    tell_owners()
    half_an_hour_later()
    tell_owners()

    assert len(mail.outbox) == 2
    assert "refused now" in mail.outbox[1].body


def test_a_mail_that_no_server_takes_is_sent_later_and_not_lost(config, settings):
    config.note_problem("client_refused")
    working = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = DOWN
    tell_owners()
    first = ProviderAlert.objects.get()
    ProviderAlert.objects.update(next_try_at=database_now())
    tell_owners()
    second = ProviderAlert.objects.get()

    settings.EMAIL_BACKEND = working
    tell_owners()
    assert mail.outbox == []

    ProviderAlert.objects.update(next_try_at=database_now())
    tell_owners()
    assert len(mail.outbox) == 1
    assert (first.failed_tries, second.failed_tries) == (1, 2)
    assert second.next_try_at is not None
    assert second.next_try_at - database_now() > timedelta(seconds=100)
    assert ProviderAlert.objects.get().failed_tries == 0


def test_a_worker_that_dies_between_sending_and_noting_loses_nothing(config, monkeypatch):
    """At most the mail comes twice."""
    config.note_problem("client_refused")

    def die(*args: object, **kwargs: object) -> bool:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("providers.alerts.send_mail", die)
        with pytest.raises(SystemExit):
            tell_owners()
    # It may still be sending, for all that others know.
    tell_owners()
    assert mail.outbox == []
    ProviderAlert.objects.update(next_try_at=database_now())
    tell_owners()

    assert len(mail.outbox) == 1


def test_two_workers_at_once_send_one_mail(config, monkeypatch):
    config.note_problem("client_refused")
    meets = threading.Barrier(2, timeout=20)
    real = mail.send_mail

    def slowly(*args: Any, **kwargs: Any) -> int:
        # The other worker looks while this one is sending, in no transaction.
        assert not connection.in_atomic_block
        meets.wait()
        meets.wait()
        return real(*args, **kwargs)

    monkeypatch.setattr("providers.alerts.send_mail", slowly)

    def work() -> None:
        tell_owners()
        connection.close()

    first = threading.Thread(target=work)
    first.start()
    meets.wait()
    tell_owners()
    meets.wait()
    first.join()
    tell_owners()

    assert len(mail.outbox) == 1


def test_what_is_switched_off_is_not_told_until_it_runs_again(config):
    config.note_problem("client_refused")
    disable(config, actor=SYSTEM)
    tell_owners()
    assert mail.outbox == []

    enable(config, actor=SYSTEM)
    tell_owners()
    assert len(mail.outbox) == 1


def test_a_copy_of_the_database_mails_nobody(
    config: ProviderConfig, settings: SettingsWrapper, forget_instance: Callable[[], None]
) -> None:
    config.note_problem("client_refused")
    Instance.objects.create(instance_id="the original")
    settings.INSTANCE_ID = "a copy"

    tell_owners()

    assert mail.outbox == []


@pytest.fixture
def forget_instance() -> Any:
    """Let no other test believe the answer of this one."""
    from portal import instance

    yield
    instance._answer = None
    Instance.objects.all().delete()


def test_every_task_that_beat_proposes_is_one_that_workers_know(settings):
    from portal.celery import app

    app.loader.import_default_modules()

    proposed = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert "providers.tasks.tell_owners" in proposed
    assert proposed <= set(app.tasks)


def test_nothing_is_written_while_all_is_well(config, django_assert_max_num_queries):
    with django_assert_max_num_queries(2):
        tell_owners()

    assert not ProviderAlert.objects.exists()
