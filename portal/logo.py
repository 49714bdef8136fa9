"""Logos: whatever was uploaded becomes a small PNG of our own making.

Writing it anew leaves behind everything that is not a picture: metadata, scripts, a second file behind the first.
SVG is never taken, because it is a document that can hold scripts.
"""

from __future__ import annotations

import hashlib
import io
import warnings

from PIL import Image, ImageOps

MAX_BYTES = 1024 * 1024
# Width and height in pixels. A picture that unpacks to more than this is refused before it is unpacked.
MAX_SOURCE_PIXELS = 4096
MAX_PIXELS = 256
FORMATS = ("PNG", "JPEG", "WEBP")


class LogoError(ValueError):
    """A file can't be used as a logo; the message says why, and what to do."""


def make_logo(data: bytes) -> bytes:
    """Return a PNG of at most 256 × 256 pixels made from PNG, JPEG or WebP. Raises LogoError."""
    if len(data) > MAX_BYTES:
        raise LogoError(
            "This file is larger than 1 MB. Save the picture smaller: 256 × 256 pixels are enough."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as source:
                if max(source.size) > MAX_SOURCE_PIXELS:
                    raise LogoError(
                        f"This picture is larger than {MAX_SOURCE_PIXELS} × {MAX_SOURCE_PIXELS} pixels. "
                        "Save it smaller: 256 × 256 are enough."
                    )
                picture = ImageOps.exif_transpose(source).convert("RGBA")
    except LogoError:
        raise
    # Pillow's decoders raise many kinds of errors for a broken file, and each means the same to us.
    except Exception:  # noqa: BLE001
        raise LogoError(
            "This is not a PNG, JPEG or WebP picture that can be read. Save it as PNG and try again."
        ) from None
    picture.thumbnail((MAX_PIXELS, MAX_PIXELS), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    # A fresh picture with the pixels alone: nothing else comes along.
    clean = Image.new("RGBA", picture.size)
    clean.paste(picture)
    clean.save(out, "PNG", optimize=True)
    return out.getvalue()


def logo_digest(png: bytes) -> str:
    """Return what the logo's address carries, so that it changes with the logo."""
    return hashlib.sha256(png).hexdigest()[:16]
