"""Local files on their way to a provider that takes addresses: put somewhere, and deleted again.

An upload is an attempt without a job. Its row is the receipt that all starts share: one for each
owner, uploader and content.

The row says ``sent``, with the object's key, before the first byte leaves, and stays
so for as long as the object may lie there. It becomes ``accepted`` when the object was deleted.
Whatever kills the process, `Store.unsettled` hands the row to whoever comes after it.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom.core.digests import digest
from darkroom.core.errors import CallError, JournalError, Stale, call_error
from darkroom.core.log import log
from darkroom.jobs.model import LOCAL_OWNER, Attempt
from darkroom.jobs.store import UNDER_WAY, Query
from darkroom.providers.params import LOCAL_FILE, local_files_in
from darkroom.providers.values import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Protocol

    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.bucket import Bucket
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.params import Takes
    from darkroom.providers.provider import Provider
    from darkroom.providers.values import LocalFile, Status

    class LocalFiles(Protocol):
        """Keeps the copies of local files; `darkroom.results` implements it."""

        async def file(self, reference: str, /) -> LocalFile:
            """Return the copy that a reference stands for."""
            ...

        async def file_of_output(self, path: Path, takes: Takes, /) -> str:
            """Take in the file of an output; return its reference."""
            ...


OPERATION = "inputs.upload"
"""The operation in the rows of uploads."""

AT_ONCE = 4
RELEASE_SECONDS = 1.0
"""How long after the end of a job its files are deleted: many jobs of a batch end together."""

AGAIN_SECONDS = 60.0
"""How often a deletion is tried again."""

LARGE_BYTES = 4_000_000
"""Progress is shown of larger files."""

LIVING: frozenset[Status] = frozenset({*UNDER_WAY, "unknown"})
"""Jobs whose provider may still fetch their inputs."""

NO_UPLOADER = (
    "{provider} takes addresses only, and no bucket is configured through which a local file gets one; "
    "nothing was sent"
)
HOW_TO_UPLOAD = (
    'ask the person to set [inputs] upload = "s3" and [inputs.s3] for a bucket of their own, or '
    "give a public https address"
)


class Uploads:
    """Gives local files addresses, and takes them back."""

    def __init__(
        self,
        context: JobContext,
        files: LocalFiles,
        bucket: Bucket | None,
    ) -> None:
        self._context = context
        self._files = files
        self._bucket = bucket
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._permits = anyio.Semaphore(AT_ONCE)
        self._ended: set[tuple[str, str]] = set()
        """Owner and hash of what jobs used that have ended."""

    # --- before a job is written ---

    def refusal(self, provider: Provider, operation: JobOperation, owner: str) -> CallError | None:
        """Return why a provider cannot get a local file of this owner, if it cannot.

        A server for many people has no files of theirs on its disk.
        """
        if owner != LOCAL_OWNER:
            return call_error(
                "forbidden",
                "this server works for several people and sends no files of its own disk",
                "give a public https address, or job:<job_id>",
            )
        if operation.files == "bytes":
            return None
        if self._bucket is not None:
            return self._bucket.trouble()
        return call_error(
            "not_configured", NO_UPLOADER.format(provider=provider.title), HOW_TO_UPLOAD
        )

    # --- before a job is sent ---

    async def hand_over(
        self, job: Job, operation: JobOperation, reference: str, live: LiveJob | None = None
    ) -> str:
        """Return what takes the place of a local file in a request; upload it if need be.

        That is an address, or the file itself (`LocalFile`) where the request holds it.

        Raises
        ------
        CallError: ``input_failed`` or ``not_configured``; nothing was sent to the provider.
        """
        if operation.files == "bytes":
            return await self._files.file(reference)
        bucket = self._bucket
        if bucket is None:
            title = self._context.clients[job.provider].provider.title
            raise call_error("not_configured", NO_UPLOADER.format(provider=title), HOW_TO_UPLOAD)
        receipt = await self._in_bucket(job.owner, reference, bucket, live)
        return bucket.address(_key(receipt))

    async def of_output(self, path: Path, takes: Takes) -> str:
        """Take in the file of an output that has no address; return its reference."""
        return await self._files.file_of_output(path, takes)

    async def _in_bucket(
        self, owner: str, reference: str, bucket: Bucket, live: LiveJob | None
    ) -> Attempt:
        sha256 = sha_of(reference)
        row = row_id(owner, "s3", sha256)
        async with self._locks[row]:
            # Read each time: another process of this computer may have put or deleted it.
            found = await self._context.registry.store.attempt(owner, row)
            if found is not None and found.state == "sent" and _is_there(found):
                return found
            async with self._permits:
                file = await self._files.file(reference)
                receipt = await self._begin(found, row, owner, sha256, bucket, file)
                return await self._put(receipt, bucket, file, live)

    async def _begin(
        self,
        found: Attempt | None,
        row: str,
        owner: str,
        sha256: str,
        bucket: Bucket,
        file: LocalFile,
    ) -> Attempt:
        """Make it durable which object is about to be written."""
        now = self._context.clock()
        extension = file.name.rpartition(".")[2]
        key = bucket.key_for(f"{secrets.token_hex(16)}.{extension}")
        left = [*_left(found)] if found is not None and found.state == "sent" else []
        evidence: dict[str, JsonValue] = {"key": key, "there": False, "left": [*left]}
        if found is None:
            receipt = Attempt(
                attempt_id=row,
                owner=owner,
                operation=OPERATION,
                request_hash=sha256,
                state="sent",
                evidence=evidence,
                created_at=now,
                sent_at=now,
            )
        else:
            receipt = found.next(state="sent", sent_at=now, answered_at=None, evidence=evidence)
        try:
            await self._context.registry.store.write(None, [receipt])
        except Stale:
            raise call_error(
                "input_failed",
                f"another server is uploading {file.name} just now; nothing was sent",
                "call again in a minute",
                retryable=True,
            ) from None
        return receipt

    async def _put(
        self, receipt: Attempt, bucket: Bucket, file: LocalFile, live: LiveJob | None
    ) -> Attempt:
        """Upload; whatever happens, what may lie in the bucket stands in the row."""

        def tell(sent: int) -> None:
            if live is not None and file.bytes > LARGE_BYTES and live.job.status == "queued":
                progress = Progress(sent, file.bytes)
                live.job = replace(live.job, queued_for="input", progress=progress)
                live.wake()

        try:
            await bucket.put(_key(receipt), file.path, file.media_type, file.bytes, tell)
        except CallError as error:
            if error.failure.retryable or len([*_left(receipt)]) > 1:  # something may lie there
                self._ended.add((receipt.owner, receipt.request_hash))
                self._release_later(0.0)
            else:
                await self._close(receipt, "refused")
            raise
        there = receipt.next(evidence={**(receipt.evidence or {}), "there": True})
        await self._record(there)
        return there

    async def _record(self, receipt: Attempt) -> None:
        """Write what became of an object, unless another process goes on with its row.

        That process has taken the key over (`_left`), and deletes no object that a living job uses.
        """
        with suppress(Stale):
            await self._context.record_attempt(receipt)

    async def _close(self, receipt: Attempt, state: str) -> None:
        now = self._context.clock()
        evidence: dict[str, JsonValue] = {"there": False}
        closed = receipt.next(state=state, answered_at=now, evidence=evidence)
        await self._record(closed)

    # --- after a job has ended ---

    def ended(self, job: Job) -> None:
        """Delete, soon, what a job was the last to use."""
        shas = set(shas_in(job.arguments))
        if not shas or self._bucket is None:
            return
        self._ended |= {(job.owner, sha256) for sha256 in shas}
        self._release_later(RELEASE_SECONDS)

    def _release_later(self, seconds: float) -> None:
        schedule = self._context.schedule
        due = anyio.current_time() + seconds
        schedule.at("uploads", due, lambda: self._context.spawn(self._release))

    async def _release(self) -> None:
        if self._context.closing:
            return  # the next start does it
        ended, self._ended = self._ended, set()
        try:
            with self._context.under_way():
                left = await self._released(ended)
        except JournalError as error:
            log.error("%s", error)
            left = ended
        if left:
            self._ended |= left
            self._release_later(AGAIN_SECONDS)

    async def _released(self, ended: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """Delete what no living job uses; return what could not be deleted."""
        store = self._context.registry.store
        left: set[tuple[str, str]] = set()
        used = {owner: await self.used(owner) for owner in {owner for owner, _ in ended}}
        for owner, sha256 in sorted(ended):
            if sha256 in used[owner]:
                continue
            row = row_id(owner, "s3", sha256)
            async with self._locks[row]:
                receipt = await store.attempt(owner, row)
                if receipt is None or receipt.state != "sent":
                    continue
                if not await self._delete(receipt):
                    left.add((owner, sha256))
        return left

    async def _delete(self, receipt: Attempt) -> bool:
        """Delete an object; tell whether it, and what was left before it, is gone.

        The row says first that the object is not to be used any more. A start that read the row
        before that has written its job, which is seen here afterwards.
        """
        bucket, store = self._bucket, self._context.registry.store
        if bucket is None:
            return False
        keys = [*_left(receipt)]
        evidence: dict[str, JsonValue] = {"key": keys[0], "there": False, "left": [*keys[1:]]}
        dropped = receipt.next(evidence=evidence)
        try:
            await store.write(None, [dropped])
        except Stale:
            return True  # somebody else uses or deletes it
        if receipt.request_hash in await self.used(receipt.owner):
            was = dropped.next(evidence=receipt.evidence)
            await self._record(was)
            return True
        try:
            for key in keys:
                await bucket.delete(key)
        except CallError as error:
            log.error("a file could not be deleted from the bucket: %s", error.failure.message)
            return False
        await self._close(dropped, "accepted")
        return True

    async def used(self, owner: str) -> set[str]:
        """Return the hashes of all files that living jobs of an owner use."""
        store, found = self._context.registry.store, set[str]()
        before: tuple[float, str] | None = None
        while True:
            page = await store.list(Query(owner=owner, statuses=LIVING, limit=500, before=before))
            for job in page:
                found.update(shas_in(job.arguments))
            if len(page) < 500:  # noqa: PLR2004 -- the page
                return found
            before = page[-1].created_at, page[-1].job_id

    # --- after the death of a process ---

    def recover(self, receipt: Attempt) -> bool:
        """Take over what a dead process may have left in the bucket; tell whether it is an upload."""
        if receipt.operation != OPERATION:
            return False
        if self._bucket is not None and receipt.state == "sent":
            self._ended.add((receipt.owner, receipt.request_hash))
            self._release_later(RELEASE_SECONDS)
        return True

    async def aclose(self) -> None:
        """Close all connections."""
        if self._bucket is not None:
            await self._bucket.aclose()


def row_id(owner: str, uploader: str, sha256: str) -> str:
    """Return the id of a receipt."""
    return digest("upload", owner, uploader, sha256)


def sha_of(reference: str) -> str:
    """Return the hash in a reference to a local file."""
    match = LOCAL_FILE.fullmatch(reference)
    if match is None:
        raise ValueError(reference)
    return match[1]


def shas_in(arguments: JsonObject) -> Iterable[str]:
    """Yield the hashes of the local files in a job's arguments."""
    return map(sha_of, local_files_in(arguments))


def _key(receipt: Attempt) -> str:
    return str((receipt.evidence or {}).get("key", ""))


def _left(receipt: Attempt) -> Iterable[str]:
    """Yield the keys of all objects that may lie in the bucket."""
    evidence = receipt.evidence or {}
    if key := _key(receipt):
        yield key
    older = evidence.get("left")
    for each in older if isinstance(older, list) else []:
        if isinstance(each, str):
            yield each


def _is_there(receipt: Attempt) -> bool:
    return (receipt.evidence or {}).get("there") is True
