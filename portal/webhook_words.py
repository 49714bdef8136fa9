"""What becomes of webhooks, in words for people."""

from __future__ import annotations

# What an attempt came to: a tone, and a sentence for people.
OUTCOMES: dict[str, tuple[str, str]] = {
    "taken": ("good", "Taken"),
    "gone": ("bad", "Answered 410 Gone, which asks us to send nothing more"),
    "redirected": ("bad", "Answered with a redirect, which we don’t follow"),
    "busy": ("warn", "Asked us to come again later"),
    "status": ("bad", "Refused"),
    "time-out": ("bad", "Gave no answer in time"),
    "refused": ("bad", "Refused the connection: nothing listens at that address"),
    "dns": ("bad", "Its host name leads nowhere"),
    "no name server": ("warn", "Its host name could not be looked up"),
    "tls": ("bad", "Its certificate is not valid"),
    "reset": ("bad", "Dropped the connection"),
    "blocked": ("bad", "Its address is not on the internet, or not https"),
    "too late": ("warn", "Not sent: the worker was too slow"),
    "secret unreadable": ("bad", "Not sent: the secret cannot be decrypted. Rotate it"),
    "a fault of our own": ("bad", "A fault of the portal’s own"),
}
