"""Grants, what they reach, how they came to be, and how they are kept fresh."""

from tokens.models.connect import AuthorizationRequest, Confirmation, ConnectSession
from tokens.models.counts import RefreshCount, RefreshMinute, RefreshTotal
from tokens.models.grants import Grant, GrantStatus, GrantTokens, Site
from tokens.models.idempotency import KeptAnswer
from tokens.models.journal import RefreshAttempt, Trigger
from tokens.models.manage import ManageLink
from tokens.models.revocations import UpstreamRevocation

__all__ = [
    "AuthorizationRequest",
    "Confirmation",
    "ConnectSession",
    "Grant",
    "GrantStatus",
    "GrantTokens",
    "KeptAnswer",
    "ManageLink",
    "RefreshAttempt",
    "RefreshCount",
    "RefreshMinute",
    "RefreshTotal",
    "Site",
    "Trigger",
    "UpstreamRevocation",
]
