"""A server under load, stage by stage, and what it held after each.

The providers are in the test's process: the pictures that they draw would swing the server's memory
by 40 MB, and hide everything else. So the server's journal, its connections and its downloads are
those that people have.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from darkroom.jobs.registry import ENDED_KEPT
from darkroom.mcp.http.sessions import MOST_SESSIONS
from tests.faults.real import sandbox_on_a_port
from tests.peers.shipped import serving, variables
from tests.soak.hosts import REVISIONS, HttpHost, PipeHost
from tests.soak.mix import Scene, play, started, tool
from tests.soak.watch import Eye, Held, figures

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from darkroom_tools.emulators.sandbox import Sandbox
    from tests.soak.hosts import Host, Revision

MODULE = "tests.soak.inside"
MODEL = "https://photos.example/model.jpg"
SECONDS = 60.0

QUEUED = 300
"""Jobs that wait for the provider as long as a run lasts: it takes about eight a minute."""

ABANDONED = MOST_SESSIONS + 16
"""Sessions that are opened and left in every stage: more than are kept."""


class Run:
    """Hosts of one server, one of which directs: it starts and ends what the others look at."""

    def __init__(self, eye: Eye, director: Host, hosts: Sequence[Host]) -> None:
        self._eye = eye
        self._director = director
        self._hosts = hosts
        self._scene = Scene(finished="")
        self.marks: list[Held] = []
        self.more_calls = 0
        """Calls by hosts that have gone."""

    @property
    def calls(self) -> int:
        """How many requests were made."""
        return self.more_calls + sum(host.calls for host in {*self._hosts, self._director})

    def stage(self, until: int) -> None:
        """Go on until that many calls have been made, let all come to rest, and look."""
        first = not self.marks
        if first:
            self._begin()
        self._scene.newest = self._start_tryon()
        queue = tool(
            self._director, "list_jobs", status="queued", batch_id=self._scene.batch, limit=1
        )
        self._scene.waiting = queue["jobs"][0]["job_id"]
        share = (until - self.calls) // len(self._hosts)
        with ThreadPoolExecutor(len(self._hosts)) as threads:
            plays = [
                threads.submit(play, host, self._scene, share, 100 * len(self.marks) + number)
                for number, host in enumerate(self._hosts)
            ]
            for each in plays:
                each.result()
        self._made(self._scene.newest)
        self._director.go()
        rest_of = None if first else self.marks[0]
        self.marks.append(self._eye.at_rest(self.calls, rest_of))

    def _begin(self) -> None:
        """Fill what is bounded, finish a job, and leave a queue."""
        ended = self._start_batch(ENDED_KEPT)
        assert tool(self._director, "cancel_batch", batch_id=ended)["counts"]["cancelled"]
        self._scene.batch = self._start_batch(QUEUED)
        self._scene.finished = self._made(self._start_tryon())

    def _start_batch(self, size: int) -> str:
        prompts = [f"A boat, the {next(self._scene.numbers)}th" for _ in range(size)]
        return started(
            self._director,
            "start_batch",
            tool="zsky_start_image",
            arguments={},
            for_each={"prompt": prompts},
        )

    def _start_tryon(self) -> str:
        """Have a try-on made; each is of another garment, because the same would be the same job."""
        garment = f"https://photos.example/garment-{next(self._scene.numbers)}.jpg"
        return started(
            self._director,
            "zupertry_start_tryon",
            model_image_url=MODEL,
            garment_image_url=garment,
        )

    def _made(self, job_id: str) -> str:
        """Wait until a try-on is made."""
        while True:
            job = tool(self._director, "zupertry_check_tryon", job_id=job_id, wait_seconds=25)
            if job["status"] == "completed":
                return job_id
            assert job["status"] in {"queued", "running"}, job


def port_of(sandbox: Sandbox) -> int:
    """Return where the emulators are."""
    return urlsplit(sandbox.emulators["zsky"].base_url).port or 0


def over_http(folder: Path, calls: int, stages: int) -> Sequence[Held]:
    """Let four hosts make so many calls, two of each revision; return what was held after each stage."""
    with (
        sandbox_on_a_port() as sandbox,
        figures(folder) as (looks, pipe),
        serving(folder, environment={**sandbox.environment(), **looks}, module=MODULE) as server,
    ):
        hosts = [HttpHost(server, revision) for revision in REVISIONS * 2]
        director = HttpHost(server, "2025-11-25")
        run = Run(Eye(server.process.pid, pipe, port_of(sandbox)), director, hosts)
        for stage in range(1, stages + 1):
            for _ in range(ABANDONED):
                host = HttpHost(server, "2025-11-25")
                assert "result" in host.ask("ping")
                host.vanish()
                run.more_calls += host.calls
            run.stage(calls * stage // stages)
        return run.marks


def over_a_pipe(folder: Path, revision: Revision, calls: int, stages: int) -> Sequence[Held]:
    """Let the host of a pipe make so many calls; return what was held after each stage."""
    with _piped(folder) as (process, eye):
        host = PipeHost(process, revision)
        run = Run(eye, host, [host])
        for stage in range(1, stages + 1):
            run.stage(calls * stage // stages)
        return run.marks


@contextmanager
def _piped(folder: Path) -> Generator[tuple[subprocess.Popen[bytes], Eye]]:
    with (
        sandbox_on_a_port() as sandbox,
        figures(folder) as (looks, pipe),
        subprocess.Popen(
            [sys.executable, "-m", MODULE, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**variables(folder), **sandbox.environment(), **looks},
        ) as process,
    ):
        try:
            yield process, Eye(process.pid, pipe, port_of(sandbox))
            _, said = process.communicate(timeout=SECONDS)
            assert (process.returncode, said) == (0, b"")
        finally:
            if process.poll() is None:
                process.kill()
