"""Object stores: Amazon's S3 and those that speak like it, Google's, and Azure's, by fsspec."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import RemoteFile, Store, import_extra
from pipeline.cloud.sums import known_sums, md5_of_etag
from pipeline.cloud.urls import BUCKETS, Url

_CONNECT_S = 20.0


def open_buckets(url: Url, settings: CloudSettings) -> Store:
    """The object store of a URL.

    Raises:
        ConfigError: its part of the extra isn't installed.
    """
    return _STORES[BUCKETS[url.scheme]](url, settings)


class _Buckets(Store):
    """What object stores have in common.

    Args:
        url: of something in it; says its account, where URLs do.
        settings: how it is asked.
    """

    def __init__(self, url: Url, settings: CloudSettings) -> None:
        self._scheme, self._settings = url.scheme, settings
        self._host = url.text.split("/", 3)[2]
        self._fs = self._open(url)

    @abstractmethod
    def _open(self, url: Url) -> Any:
        """The library's file system, not yet asked for anything."""

    @abstractmethod
    def _describe(self, info: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
        """Version and checksums of a file, of what a listing says."""

    def path_of(self, url: Url) -> Path:
        """See `Store`."""
        return Path(f"{self._scheme}:", *self._address(url).split("/"))

    async def look(self, url: Url) -> RemoteFile | None:
        """See `Store`."""
        address = self._address(url)
        if "/" not in address:
            return None  # a whole bucket
        try:
            info = await self._fs._info(address)
        except FileNotFoundError:
            return None  # perhaps the beginning of keys; else nothing is listed
        return self._file(info) if info["type"] == "file" else None

    async def list(self, url: Url) -> Sequence[RemoteFile]:
        """See `Store`; the marks that some tools leave in place of folders are left out."""
        address = self._address(url)
        found = await self._fs._find(address, detail=True)
        files = [i for i in found.values() if i["type"] == "file" and not i["name"].endswith("/")]
        return [self._file(info) for info in sorted(files, key=lambda info: str(info["name"]))]

    async def head(self, file: RemoteFile) -> RemoteFile:
        """See `Store`."""
        return self._file(await self._fs._info(file.address))

    async def read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """See `Store`."""
        data: bytes = await self._fs._cat_file(file.address, start=start, end=end)
        return data

    def _address(self, url: Url) -> str:
        address: str = self._fs._strip_protocol(url.text)
        return address.rstrip("/")

    def _file(self, info: Mapping[str, Any]) -> RemoteFile:
        name = str(info["name"])
        bucket, _, key = name.partition("/")
        # An account that the URL names is named again.
        host = self._host if self._host.startswith(f"{bucket}@") else bucket
        version, sums = self._describe(info)
        return RemoteFile(
            shown=f"{self._scheme}://{host}/{key}",
            path=Path(f"{self._scheme}:", *name.split("/")),
            address=name,
            size=int(info["size"] or 0),
            version=version,
            sums=sums,
        )


class _S3(_Buckets):
    """Amazon's S3, and what speaks like it (``AWS_ENDPOINT_URL``)."""

    def _open(self, url: Url) -> Any:
        module = import_extra("s3fs", url)
        timeouts = {"connect_timeout": _CONNECT_S, "read_timeout": self._settings.timeout_s}
        return module.S3FileSystem(
            anon=self._settings.anonymous,
            config_kwargs=timeouts,
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def _describe(self, info: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
        # That an ETag is an MD5 shows only when the file is asked for: see `head`.
        return str(info.get("ETag", "")).strip('"'), {}

    async def look(self, url: Url) -> RemoteFile | None:
        """See `Store`."""
        try:
            return await super().look(url)
        except OSError as error:
            raise await self._in_full(error, self._address(url)) from None

    async def head(self, file: RemoteFile) -> RemoteFile:
        """See `Store`."""
        bucket, _, key = file.address.partition("/")
        where = {"Bucket": bucket, "Key": key}
        try:
            told = await self._fs._call_s3("head_object", ChecksumMode="ENABLED", **where)
        except OSError as error:
            raise await self._in_full(error, file.address) from None
        whole = told.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        kinds = ("sha256", "sha1", "crc32c", "crc32")
        sums = {kind: told.get(f"Checksum{kind.upper()}") if whole else None for kind in kinds}
        if _etag_may_be_md5(told):
            sums["md5"] = md5_of_etag(told.get("ETag"))
        version = str(told.get("ETag", "")).strip('"')
        size = int(told["ContentLength"])
        return replace(file, size=size, version=version, sums=known_sums(sums))

    async def read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """See `Store`; of this very version, else the store says 412."""
        bucket, _, key = file.address.partition("/")
        only = {"IfMatch": f'"{file.version}"'} if file.version else {}
        told = await self._fs._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **only
        )
        async with told["Body"] as body:
            data: bytes = await body.read()
        return data

    async def _in_full(self, error: OSError, address: str) -> OSError:
        """An error with its reason: an answer to HEAD has no room for one, one to GET has."""
        if isinstance(error, FileNotFoundError):
            return error
        bucket, _, key = address.partition("/")
        try:
            told = await self._fs._call_s3("get_object", Bucket=bucket, Key=key, Range="bytes=0-0")
        except FileNotFoundError:
            return error
        except OSError as fuller:
            return fuller
        told["Body"].close()
        return error


def _etag_may_be_md5(told: Mapping[str, Any]) -> bool:
    """Of files under a customer's own key the ETag is no MD5, however it looks."""
    own = str(told.get("ServerSideEncryption", "")).startswith("aws:kms")
    return not own and not told.get("SSECustomerAlgorithm")


class _Google(_Buckets):
    """Google Cloud Storage."""

    def _open(self, url: Url) -> Any:
        # Else it asks by gRPC of what kind each bucket is, which needs another port and permission.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        module = import_extra("gcsfs", url)
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what it raises is told here
        return module.GCSFileSystem(
            token="anon" if self._settings.anonymous else None,
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def _describe(self, info: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
        sums = known_sums({"md5": info.get("md5Hash"), "crc32c": info.get("crc32c")})
        return str(info.get("generation") or info.get("etag") or ""), sums


class _Azure(_Buckets):
    """Azure Blob Storage, the account by the URL or by ``AZURE_STORAGE_ACCOUNT_NAME``."""

    def _open(self, url: Url) -> Any:
        module = import_extra("adlfs", url)
        logging.getLogger("azure").setLevel(logging.CRITICAL)  # what it raises is told here
        options = module.AzureBlobFileSystem._get_kwargs_from_urls(url.text)
        return module.AzureBlobFileSystem(
            anon=self._settings.anonymous,
            use_listings_cache=False,
            skip_instance_cache=True,
            **options,
        )

    def _describe(self, info: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
        content = info.get("content_settings") or {}
        md5 = content.get("content_md5") if isinstance(content, Mapping) else content.content_md5
        return str(info.get("etag") or "").strip('"'), known_sums({"md5": md5})


_STORES: Mapping[str, Callable[[Url, CloudSettings], Store]] = {
    "s3": _S3,
    "gs": _Google,
    "az": _Azure,
}
