"""Erase grants with everything that belongs to them, in a few statements however many there are.

Django's own cascade would read every row first: a minute and much memory at 100,000 grants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from portal import outbox
from portal.models import WebhookType
from tokens import upstream
from tokens.clock import database_now
from tokens.models import GrantStatus

if TYPE_CHECKING:
    from providers.models import ProviderConfig

GROUP = 1000
# What a message about a grant is made of.
TOLD = ("end_user", "label", "confirmed_at", "provider_config")
# In the order in which everybody locks: a consent or a refresh under way is committed before, and its tokens are seen, or
# not at all.
LOCKS = (
    (
        "SELECT count(*) FROM (SELECT FROM tokens_connectsession"
        " WHERE provider_config_id = %(config)s AND status IN ('open', 'choosing') ORDER BY id FOR UPDATE) s"
    ),
    "SELECT count(*) FROM (SELECT FROM tokens_grant WHERE provider_config_id = %(config)s ORDER BY id FOR UPDATE) g",
)
STATEMENTS = (
    (
        "DELETE FROM tokens_granttokens x USING tokens_grant g"
        " WHERE g.id = x.grant_id AND g.provider_config_id = %(config)s"
    ),
    "DELETE FROM tokens_site x USING tokens_grant g WHERE g.id = x.grant_id AND g.provider_config_id = %(config)s",
    (
        "DELETE FROM tokens_refreshattempt x USING tokens_grant g"
        " WHERE g.id = x.grant_id AND g.provider_config_id = %(config)s"
    ),
    (
        "DELETE FROM tokens_authorizationrequest x USING tokens_connectsession s"
        " WHERE s.id = x.session_id AND s.provider_config_id = %(config)s"
    ),
    "DELETE FROM tokens_connectsession WHERE provider_config_id = %(config)s",
    "DELETE FROM tokens_refreshminute WHERE provider_config_id = %(config)s",
    "DELETE FROM tokens_refreshcount WHERE provider_config_id = %(config)s",
    "DELETE FROM tokens_refreshtotal WHERE provider_config_id = %(config)s",
    "DELETE FROM tokens_grant WHERE provider_config_id = %(config)s",
)


def _tell_of_all(config: ProviderConfig) -> None:
    wanted = WebhookType.GRANT_REVOKED
    if not config.application.webhook_endpoints.filter(disabled_at=None, types__contains=[wanted]).exists():
        return
    now = database_now()
    grants = config.grants.alive().filter(confirmed_at__isnull=False).order_by("pk")
    last: Any = None
    while group := list((grants.filter(pk__gt=last) if last else grants).only(*TOLD)[:GROUP]):
        last = group[-1].pk
        things = []
        for grant in group:
            grant.provider_config = config
            grant.status, grant.cause = GrantStatus.REVOKED, "the provider was deleted"
            things.append((grant.pk, grant.webhook_data({}) or {}))
        outbox.write(config.application_id, wanted, things, at=now)


def erase_all_of_provider(config: ProviderConfig) -> None:
    """Erase all grants, sessions and counts of a configuration in one transaction. The audit log stays.

    Webhooks are told of each grant; no audit event does that here, since the deletion's own says how many there were.
    What must be ended at the provider is written down.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        for lock in LOCKS:
            cursor.execute(lock, {"config": config.pk})
        _tell_of_all(config)
        upstream.write_down_all(config)
        for statement in STATEMENTS:
            cursor.execute(statement, {"config": config.pk})
