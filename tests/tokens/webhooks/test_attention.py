"""Where people and machines learn that an endpoint is not well: Overview and the metrics."""

from __future__ import annotations

import pytest
from django.urls import reverse

from portal.audit import SYSTEM, record
from portal.models import Event, WebhookEndpoint
from portal.models.webhooks import DisabledReason
from tests.factories import GrantFactory, ProviderConfigFactory
from tokens.webhooks import endpoints
from tokens.webhooks.metrics import webhook_metrics

pytestmark = pytest.mark.django_db


def test_overview_names_endpoints_that_are_not_well_and_no_others(cast, new_endpoint):
    made = {name: new_endpoint(cast.application, name=name)[0] for name in ("well", "failing", "gone", "off")}
    new_endpoint(cast.strangers_application, name="theirs")
    WebhookEndpoint.objects.filter(name__in=["failing", "theirs"]).update(misses_in_a_row=5)
    endpoints.disable(made["gone"], reason=DisabledReason.GONE, actor=SYSTEM)
    endpoints.disable(made["off"], reason=DisabledReason.MEMBER, actor=SYSTEM)

    page = cast.client("support").get(reverse("application-overview", args=["acme-tasks"])).content.decode()

    assert "Webhooks to gone were stopped." in page
    assert "Webhooks to failing are not taken." in page
    assert page.count("Webhooks to ") == 2
    assert made["gone"].get_absolute_url() in page


def test_the_metrics_count_endpoints_and_what_is_due_to_those_that_work(cast, new_endpoint):
    grant = GrantFactory(provider_config=ProviderConfigFactory(application=cast.application))
    for name in ("one", "two", "failing", "off"):
        new_endpoint(cast.application, name=name)
    WebhookEndpoint.objects.filter(name="failing").update(misses_in_a_row=5)
    record(Event.GRANT_REVOKED, actor=SYSTEM, application=cast.application, subject=grant)
    endpoints.disable(WebhookEndpoint.objects.get(name="off"), reason=DisabledReason.GONE, actor=SYSTEM)

    found = {
        (sample.name, sample.labels.get("state", "")): sample.value
        for metric in webhook_metrics()
        for sample in metric.samples
        if sample.labels["application"] == "acme-tasks"
    }

    assert 0 <= found.pop(("portal_webhooks_due_oldest_seconds", "")) < 60
    assert found == {
        ("portal_webhook_endpoints", "working"): 2,
        ("portal_webhook_endpoints", "failing"): 1,
        ("portal_webhook_endpoints", "disabled"): 1,
        ("portal_webhooks_due", ""): 2,
    }
