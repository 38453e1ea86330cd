"""Which URLs and options open which store, and what is said of those that open none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from homeport.dataplane.objects import StoreUnreachableError
from homeport.errors import kind_of
from homeport.providers.store.bucket import BucketStore, explain
from homeport.providers.store.folder import MARK, FolderStore
from homeport.providers.store.object_store import SECRETS, StoreUrlRefusedError, open_store

KEYS = {"access_key_id": "AKIA", "secret_access_key": "hush-hush", "region": "us-east-1"}
ACCOUNT = {"account_name": "acct", "account_key": "aHVzaC1odXNo"}


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        ("s3://bucket", KEYS, "S3Store"),
        ("s3://bucket/", KEYS, "S3Store"),
        ("s3://bucket/a/prefix", {**KEYS, "allow_http": "true"}, "S3Store"),
        ("s3://bucket/x", {**KEYS, "endpoint": "http://127.0.0.1:9"}, "S3Store"),
        ("az://container/x", ACCOUNT, "AzureStore"),
        ("az://container/x", {"account_name": "acct", "sas_token": "sv=1&sig=2"}, "AzureStore"),
        ("gs://bucket/x", {}, "GCSStore"),
        ("gs://bucket", {"endpoint": "http://127.0.0.1:9"}, "GCSStore"),
    ],
)
def test_a_bucket_opens_without_being_asked(url: str, options: dict[str, str], kind: str) -> None:
    store = open_store(url, options)
    assert isinstance(store, BucketStore)
    assert store.name == url
    assert type(store.bucket).__name__ == type(store.once).__name__ == kind


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("", "scheme"),
        ("/srv/cache", "scheme"),
        ("ftp://host/x", "scheme 'ftp'"),
        ("http://host/x", "scheme 'http'"),
        ("s3:bucket", "no bucket"),
        ("s3:///prefix", "no bucket"),
        ("s3://bucket/a/../b", "'..'"),
        ("s3://bucket/a/%2e%2e/b", "'..'"),
        ("s3://bucket/a//b", "portable"),
        ("s3://bucket/a b", "portable"),
        ("s3://user:hush@bucket/x", "more than a place"),
        ("az://c/x?sig=hush", "more than a place"),
        ("az://c/x#hush", "more than a place"),
        ("file:srv/cache", "not absolute"),
        ("file://srv/cache", "not absolute"),
        ("file://./cache", "not absolute"),
        ("file:///srv/../etc", "'..'"),
        ("file:///", "no folder"),
        ("file://", "not absolute"),
        ("file:///a%00b", "no folder"),
        ("s3://[bucket/x", "not a URL"),
    ],
)
def test_a_bad_url_is_refused_and_says_what_to_do(url: str, cause: str) -> None:
    with pytest.raises(StoreUrlRefusedError) as caught:
        open_store(url)
    facts = caught.value.as_dict()
    assert facts["code"] == "StoreUrlRefused"
    assert cause in facts["cause"]
    assert facts["remedy"]
    assert kind_of(caught.value) == "refused"
    assert "hush" not in " ".join(facts.values())


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("s3://b/x", {"colour": "red"}, "colour"),
        ("s3://b/x", {"account_key": "hush"}, "account_key"),
        ("file:///srv", {"region": "x"}, "region"),
        ("s3://b/x", {"allow_http": "perhaps"}, "allow_http"),
        ("az://c/x", {"account_name": "a", "account_key": "hush!hush"}, "Access Key"),
        ("gs://b/x", {"service_account_key": "hush"}, "Generic|GCS|service|decode|JSON|expected"),
    ],
)
def test_a_bad_option_is_refused_without_showing_secrets(
    url: str, options: dict[str, str], said: str
) -> None:
    with pytest.raises(StoreUrlRefusedError) as caught:
        open_store(url, options)
    facts = caught.value.as_dict()
    assert re.search(said, facts["cause"])
    assert not any(options.get(name, "no secret") in facts["cause"] for name in SECRETS)


def test_a_folder_is_made_only_when_told_to(tmp_path: Path) -> None:
    root = tmp_path / "with space" / "store"
    url = root.as_uri()
    with pytest.raises(StoreUnreachableError):
        open_store(url)
    assert not root.exists()
    store = open_store(url, create=True)
    assert isinstance(store, FolderStore)
    store.put("a", b"1")
    assert open_store(url).get("a") == b"1"
    assert open_store(url, create=True).get("a") == b"1"


def test_a_folder_that_is_no_store_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachableError) as caught:
        open_store(tmp_path.as_uri())
    assert MARK in caught.value.cause
    assert "A new store is made" in caught.value.remedy


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plain", "plain"),
        ("a\n  b", "a b"),
        ("GET https://h/b/k?sv=1&sig=hush failed", "GET https://h/b/k failed"),
        ("short\n\nDebug source:\nGeneric { hush }", "short"),
        ("x" * 1000, "x" * 400),
    ],
)
def test_the_library_s_words_are_shown_short_and_without_queries(words: str, shown: str) -> None:
    assert explain(ValueError(words)) == shown
