"""Whom the client trusts."""

from __future__ import annotations

import ssl

import pytest

from homeport.client import Client, _trusted


def test_a_plain_address_reads_no_certificates_and_trusts_nobody() -> None:
    context = _trusted("http://127.0.0.1:8740")
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.get_ca_certs() == []


@pytest.mark.parametrize("url", ["https://vault.example", "HTTPS://vault.example", "vault"])
def test_any_other_is_trusted_as_the_system_says(url: str) -> None:
    assert _trusted(url) is True


def test_both_make_a_client() -> None:
    for url in ("http://127.0.0.1:1", "https://127.0.0.1:1"):
        Client(url).close()
