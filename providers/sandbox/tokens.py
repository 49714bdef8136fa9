"""How the sandbox's credentials look: shaped like JWTs, long, and marked so that a leak can be found."""

import base64
import hashlib
import secrets

# Every code and token that the sandbox gives out holds this text in clear; search logs and dumps for it.
CANARY = "CANARY-7f3a"

_HEADER = base64.urlsafe_b64encode(b'{"kid":"sandbox-1","alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
_PADDING = "x" * 100_000
# Header, two dots and the signature, in characters.
_FRAME = len(_HEADER) + 2 + len(CANARY) + 32


def digest(value: str) -> str:
    """Return the name under which the sandbox remembers a secret; the secret itself is never kept."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def new_token(
    kind: str, *, subject: str, audience: str, issuer: str, at: float, expires_at: float, size: int
) -> str:
    """Return a fresh credential of about size characters, shaped like the JWTs that Atlassian gives out.

    The signature is filler: clients must treat the whole as opaque, and signing would only cost time.
    """
    claims = (
        f'{{"jti":"{secrets.token_hex(12)}","sub":"{subject}","aud":"{audience}","iss":"{issuer}",'
        f'"iat":{int(at)},"exp":{int(expires_at)},"typ":"{kind}","pad":"'
    )
    padding = max(0, (size - _FRAME) * 3 // 4 - len(claims) - 2)
    payload = base64.urlsafe_b64encode(f'{claims}{_PADDING[:padding]}"}}'.encode()).rstrip(b"=").decode()
    return f"{_HEADER}.{payload}.{CANARY}{secrets.token_hex(16)}"
