"""
From a URL and options to an open cache store: what wiring and the command line call.

A URL says where (`file:///srv/cache`, `s3://bucket/prefix`, `az://container/prefix`,
`gs://bucket/prefix`) and never holds a secret. Options say how; credentials that are not among them
come from the environment the cloud's own tools use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from homeport.dataplane.objects import KeyRefusedError, check_prefix
from homeport.dataplane.ports import ObjectStore
from homeport.errors import RefusedError
from homeport.providers.store.bucket import Bucket, BucketStore, explain
from homeport.providers.store.folder import open_folder

if TYPE_CHECKING:  # these are not there at run time
    from obstore.store import ClientConfig, RetryConfig

SECRETS = frozenset(
    {"secret_access_key", "session_token", "account_key", "sas_token", "service_account_key"}
)
"""Options whose values are never shown."""

# A window or part of 16 MiB within two minutes is 136 KiB/s; a slower way does not carry a disk.
_TIMEOUT = timedelta(seconds=120)
_CONNECT_TIMEOUT = timedelta(seconds=5)

# Within one call, so that one part's hiccup does not cost the whole of a large upload. Longer
# outages are RetryingStore's.
_RETRIES = 3
_RETRY_SPAN = timedelta(seconds=20)


class StoreUrlRefusedError(RefusedError):
    """A URL or option that names no cache store."""

    code = "StoreUrlRefused"

    def __init__(self, url: str, cause: str, remedy: str) -> None:
        super().__init__(f"{url!r} does not open as a cache store", cause=cause, remedy=remedy)
        self.url = url


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cloud:
    """How a scheme is opened; `names` gives the library's name for each option of ours."""

    factory: Callable[..., Bucket]
    names: Mapping[str, str]


_S3 = _Cloud(
    factory=S3Store,
    names={
        "endpoint": "endpoint",
        "region": "region",
        "access_key_id": "access_key_id",
        "secret_access_key": "secret_access_key",
        "session_token": "session_token",
    },
)
_AZURE = _Cloud(
    factory=AzureStore,
    names={
        "endpoint": "endpoint",
        "account_name": "account_name",
        "account_key": "account_key",
        "sas_token": "sas_key",
    },
)
_GCS = _Cloud(
    factory=GCSStore,
    names={
        "endpoint": "base_url",
        "service_account": "service_account",
        "service_account_key": "service_account_key",
    },
)
CLOUDS: Mapping[str, _Cloud] = MappingProxyType({"s3": _S3, "az": _AZURE, "gs": _GCS})
_FORMS = "Use file:///folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix."


def open_store(
    url: str, options: Mapping[str, str] | None = None, *, create: bool = False
) -> ObjectStore:
    """
    The cache store at `url`.

    Options are the names in `CLOUDS` and `allow_http` ("true" for an endpoint without TLS). With
    `create`, a folder is made; say it when a store is set up, see `open_folder`. A bucket is never
    made, and nothing is sent to it before the first call.

    Raises:
        StoreUrlRefusedError: the URL or an option is not understood.
        StoreUnreachableError, StoreDeniedError: a folder is not there, or may not be used.
    """
    parts = _parse(url)
    given = dict(options or {})
    if parts.scheme == "file":
        _check_options(url, given, allowed=frozenset())
        return open_folder(_folder(parts), create=create)
    return _open_bucket(parts, given)


def _parse(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreUrlRefusedError("(a URL)", f"It is not a URL: {error}.", _FORMS) from error
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise StoreUrlRefusedError(
            shown,
            "It holds more than a place: a user, a query or a fragment.",
            "Give credentials as options or in the environment, never in the URL.",
        )
    if parts.scheme != "file" and parts.scheme not in CLOUDS:
        raise StoreUrlRefusedError(url, f"Its scheme {parts.scheme!r} is not known.", _FORMS)
    if ".." in unquote(parts.path).split("/"):
        raise StoreUrlRefusedError(
            url, "It has '..' in its path.", "Write the path out, without '..'."
        )
    return parts


def _folder(parts: SplitResult) -> Path:
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/"):
        raise StoreUrlRefusedError(
            parts.geturl(),
            "Its path is not absolute.",
            "Write three slashes and the whole path, as in file:///srv/cache.",
        )
    if not path.strip("/") or "\0" in path:
        raise StoreUrlRefusedError(
            parts.geturl(),
            "It names no folder.",
            "Name a folder of its own, as in file:///srv/cache.",
        )
    return Path(path)


def _open_bucket(parts: SplitResult, options: dict[str, str]) -> BucketStore:
    url, cloud = parts.geturl(), CLOUDS[parts.scheme]
    prefix = _bucket_prefix(parts)
    _check_options(url, options, allowed=cloud.names.keys() | {"allow_http"})
    hide = _hider(options)
    client: ClientConfig = {
        "allow_http": _truth(url, options.pop("allow_http", "false")),
        "timeout": _TIMEOUT,
        "connect_timeout": _CONNECT_TIMEOUT,
    }
    config = {cloud.names[name]: value for name, value in options.items()}

    def make(retries: int) -> Bucket:
        retry: RetryConfig = {"max_retries": retries, "retry_timeout": _RETRY_SPAN}
        return cloud.factory(
            parts.netloc,
            prefix=prefix or None,
            config=cast("Any", config),
            client_options=client,
            retry_config=retry,
        )

    try:
        return BucketStore(name=url, bucket=make(_RETRIES), once=make(0), hide=hide)
    except (BaseError, OSError, TypeError, ValueError) as error:
        raise StoreUrlRefusedError(
            url,
            hide(explain(error)),
            "Check the options given and the cloud's variables in the environment.",
        ) from None  # the library's own words may hold a key


def _bucket_prefix(parts: SplitResult) -> str:
    url = parts.geturl()
    if not parts.netloc:
        raise StoreUrlRefusedError(url, "It names no bucket.", _FORMS)
    try:
        return check_prefix(parts.path.removeprefix("/"))
    except KeyRefusedError as error:
        raise StoreUrlRefusedError(url, error.cause, error.remedy) from error


def _check_options(url: str, options: Mapping[str, str], *, allowed: Set[str]) -> None:
    unknown = sorted(options.keys() - allowed)
    if unknown:
        known = ", ".join(sorted(allowed)) or "none"
        raise StoreUrlRefusedError(
            url, f"It has no option {', '.join(unknown)}.", f"The options are: {known}."
        )


def _truth(url: str, word: str) -> bool:
    if word not in {"true", "false"}:
        raise StoreUrlRefusedError(url, f"allow_http is {word!r}.", "Say true or false.")
    return word == "true"


def _hider(options: Mapping[str, str]) -> Callable[[str], str]:
    secrets = [value for name, value in options.items() if name in SECRETS and value]

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return hide
