"""Small template helpers."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def initial(name: str) -> str:
    """Return the first letter of a name, for an avatar."""
    return name.strip()[:1].upper() or "?"
