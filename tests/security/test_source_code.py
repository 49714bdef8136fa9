"""Statement C11, read from the source: no home-made crypto, no MD5 or SHA-1, no `random`; one door to each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted(
    path for folder in ("portal", "providers", "tokens") for path in (ROOT / folder).rglob("*.py")
)
# Our own Atlassian plays a provider; it may make keys and tokens of its own.
SANDBOX = ROOT / "providers" / "sandbox"
# Who may import from `cryptography`: encryption at rest, and the sandbox's own signing.
CIPHERS = {ROOT / "portal" / "encryption.py"}
FORBIDDEN_MODULES = {
    "random",
    "md5",
    "sha",
    "Crypto",
    "Cryptodome",
    "nacl",
    "rsa",
    "simplecrypt",
    "pyaes",
    "passlib",
    "jwt",
}
FORBIDDEN_HASHES = {"md5", "sha1", "new", "MD5", "SHA1", "MD4", "Blowfish", "ARC4", "TripleDES", "ECB"}


def test_there_is_source_to_read_c11():
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_weak_or_home_made_crypto_c11(path):
    found = [f"line {node.lineno}: {what}" for node, what in _findings(ast.parse(path.read_text()), path)]

    assert found == []


def _findings(tree, path):
    for node in ast.walk(tree):
        for name in _imported(node):
            module = name.partition(".")[0]
            # The sandbox rolls dice for its faults.
            if module in FORBIDDEN_MODULES and not (module == "random" and SANDBOX in path.parents):
                yield node, f"imports {name}"
            if module == "cryptography" and path not in CIPHERS and SANDBOX not in path.parents:
                yield node, f"imports {name}: encrypt through portal/encryption.py"
            if name.startswith(("django.core.signing", "django.utils.crypto.salted_hmac")):
                yield node, f"imports {name}: SECRET_KEY encrypts and signs nothing of ours (C10)"
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_HASHES and _is_hash_library(node.value):
            yield node, f"uses {ast.unparse(node)}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor) and not _is_q(node):
            yield node, "combines with ^: if this is a cipher, use portal/encryption.py"


def _imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _is_hash_library(node):
    return isinstance(node, ast.Name) and node.id in {"hashlib", "hashes", "algorithms", "modes"}


def _is_q(node):
    return any(isinstance(part, ast.Call) and ast.unparse(part.func).endswith("Q") for part in ast.walk(node))
