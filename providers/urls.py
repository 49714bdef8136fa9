"""Addresses of this app's pages."""

from typing import Any

urlpatterns: list[Any] = []
