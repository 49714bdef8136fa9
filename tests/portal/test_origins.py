"""Origins as browsers write them, and nothing else."""

from __future__ import annotations

import pytest

from portal.origins import OriginError, normalise_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("  HTTPS://APP.Example.COM/ ", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("https://app.example.com:8443/", "https://app.example.com:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://shop.localhost", "http://shop.localhost"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://[2001:DB8:0:0::1]", "https://[2001:db8::1]"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text, origin):
    assert normalise_origin(text) == origin
    assert normalise_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app.example.com",
        "//app.example.com",
        "https:app.example.com",
        "https:/app.example.com",
        "https://",
        "https://app.example.com/path",
        "https://app.example.com?x=1",
        "https://app.example.com?",
        "https://app.example.com#",
        "https://good.example@evil.example",
        "https://good.example\\@evil.example",
        "https://*.example.com",
        "https://app.example.com https://b.example",
        "https://app.exam\tple.com",
        "https://app.example.com:99999",
        "https://app.example.com:port",
        "http://app.example.com",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://2130706433",
        "https://-a.example",
        "https://a..example",
        "https://exa_mple.com",
        "javascript://app.example.com",
        "ftp://app.example.com",
        "https://" + "a" * 63 + ("." + "a" * 63) * 3 + ".example",
        "null",
    ],
)
def test_anything_else_is_refused_with_a_sentence(text):
    with pytest.raises(OriginError) as refusal:
        normalise_origin(text)

    assert str(refusal.value)
