"""Addresses of applications, members, audit log and settings."""

from typing import Any

urlpatterns: list[Any] = []
