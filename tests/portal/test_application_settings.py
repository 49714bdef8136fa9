"""Settings of an application: name, logo, return origins."""

from __future__ import annotations

import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image

from portal import applications
from portal.models import ApplicationLogo, AuditEvent, Event

pytestmark = pytest.mark.django_db
URL = "/applications/acme-tasks/settings/"


def test_the_page_shows_what_is_set(cast):
    cast.application.return_origins = ["https://app.example.com"]
    cast.application.save()

    page = cast.client("admin").get(URL).content.decode()

    assert 'value="Acme Tasks"' in page
    assert "https://app.example.com" in page


def test_a_changed_name_is_saved_and_kept_in_the_audit_log(cast):
    response = _post(cast, name="Acme Boards")

    assert response.url == URL
    cast.application.refresh_from_db()
    assert (cast.application.name, cast.application.slug) == ("Acme Boards", "acme-tasks")
    event = AuditEvent.objects.get(event=Event.APPLICATION_CHANGED)
    assert event.detail == {"changes": {"name": ["Acme Tasks", "Acme Boards"]}}


def test_saving_what_is_there_changes_nothing(cast):
    _post(cast)

    assert not AuditEvent.objects.exists()


def test_origins_are_stored_as_browsers_write_them_each_once(cast):
    origins = " HTTPS://App.Example.com/ \n\nhttps://app.example.com:443\nhttp://localhost:3000\n"
    _post(cast, return_origins=origins)

    cast.application.refresh_from_db()
    assert cast.application.return_origins == ["https://app.example.com", "http://localhost:3000"]


def test_each_wrong_origin_is_named_and_all_that_was_typed_is_kept(cast):
    response = _post(
        cast, name="Typed", return_origins="https://ok.example\nhttp://app.example.com\nexample.com/path"
    )

    page = response.content.decode()
    assert response.status_code == 422
    assert "Line 2: “http://app.example.com” must be https; http is for localhost only." in page
    assert "Line 3: “example.com/path” must begin with https://" in page
    assert "example.com/path</textarea>" in page
    assert 'value="Typed"' in page
    assert "<title>Error: Settings · Acme Tasks" in page
    # The summary leads to a field by the address: the page after the form must not begin there, below "Saved."
    assert f'method="post" action="{response.wsgi_request.path}"' in page


def test_a_logo_is_shrunk_and_written_anew_as_png(cast):
    _post(cast, logo=_picture("JPEG", (600, 300)))

    stored = Image.open(io.BytesIO(ApplicationLogo.objects.get(application=cast.application).png))
    assert (stored.format, stored.size) == ("PNG", (256, 128))


def test_a_logo_is_served_to_anybody_and_kept_for_ever(cast):
    _post(cast, logo=_picture())
    cast.application.refresh_from_db()

    response = Client().get(cast.application.logo_url)

    assert response.status_code == 200
    assert response["Content-Type"] == "image/png"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cache-Control"] == "public, max-age=31536000, immutable"


def test_the_address_of_the_logo_changes_with_it(cast):
    _post(cast, logo=_picture(color="red"))
    cast.application.refresh_from_db()
    before = cast.application.logo_url

    _post(cast, logo=_picture(color="blue"))

    cast.application.refresh_from_db()
    assert cast.application.logo_url != before
    assert Client().get(before)["Cache-Control"] == "no-cache"


def test_a_logo_can_be_removed(cast):
    _post(cast, logo=_picture())

    _post(cast, remove_logo="on")

    cast.application.refresh_from_db()
    assert cast.application.logo_url == ""
    assert Client().get(reverse("application-logo", args=["acme-tasks"])).status_code == 404


def test_without_a_logo_there_is_none(cast):
    assert Client().get(reverse("application-logo", args=["acme-tasks"])).status_code == 404
    assert Client().get(reverse("application-logo", args=["nobody"])).status_code == 404


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "logo.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
            "not a PNG, JPEG or WebP",
        ),
        ("logo.png", b"<html><script>alert(1)</script>", "not a PNG, JPEG or WebP"),
        ("logo.png", b"", "This file is empty"),
        ("logo.png", b"\x89PNG\r\n\x1a\n" + b"0" * 100, "not a PNG, JPEG or WebP"),
        ("logo.png", b"0" * (1024 * 1024 + 1), "larger than 1 MB"),
    ],
)
def test_what_is_no_picture_is_refused_and_the_rest_kept(cast, name, content, said):
    response = _post(cast, name="Typed", logo=SimpleUploadedFile(name, content, "image/png"))

    assert response.status_code == 422
    assert said in response.content.decode()
    assert 'value="Typed"' in response.content.decode()
    assert not ApplicationLogo.objects.exists()


def test_a_gif_is_refused(cast):
    assert _post(cast, logo=_picture("GIF")).status_code == 422


def test_a_picture_that_unpacks_to_a_giant_is_refused_before_it_is_unpacked(cast):
    response = _post(cast, logo=_picture(size=(20_000, 2)))

    assert "larger than 4096 × 4096 pixels" in response.content.decode()


def test_what_hides_behind_a_picture_does_not_come_along(cast):
    picture = _picture()
    picture.seek(0, io.SEEK_END)
    picture.write(b"<script>alert('CANARY')</script>")
    picture.seek(0)

    _post(cast, logo=picture)

    assert b"CANARY" not in bytes(ApplicationLogo.objects.get().png)


def test_the_danger_zone_is_for_owners(cast):
    assert "Archive Acme Tasks" in cast.client("owner").get(URL).content.decode()
    assert "Archive Acme Tasks" not in cast.client("admin").get(URL).content.decode()


def test_an_archived_application_offers_to_restore_it(cast):
    from portal.audit import SYSTEM

    applications.archive(cast.application, actor=SYSTEM)

    page = cast.client("owner").get(URL).content.decode()

    assert "Restore Acme Tasks" in page
    assert "This application is archived." in page


@pytest.mark.parametrize("who", ["support", "auditor"])
def test_settings_are_not_for_small_roles(cast, who):
    assert cast.client(who).get(URL).status_code == 403


def test_the_page_needs_few_queries(cast, django_assert_max_num_queries):
    client = cast.client("owner")

    with django_assert_max_num_queries(10):
        client.get(URL)


def _post(cast, **data):
    values = {"name": "Acme Tasks", "return_origins": "\n".join(cast.application.return_origins)}
    return cast.client("admin").post(URL, values | data)


def _picture(kind="PNG", size=(64, 64), color="green"):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    file.seek(0)
    file.name = f"logo.{kind.lower()}"
    return file
