"""What hosts do all day, and that each answer is what it should be."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.soak.hosts import HttpHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness import Fields
    from tests.soak.hosts import Host

NOBODYS = "zsky_" + "A" * 22


@dataclass(kw_only=True)
class Scene:
    """What the hosts of a server know. ``finished`` has its picture; ``waiting`` waits for others."""

    finished: str
    batch: str = ""
    newest: str = ""
    waiting: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Makes prompts that were never given before: the same call again would be the same job."""


def result(host: Host, method: str, /, **params: Any) -> Fields:
    """Send a request that must succeed; return its result."""
    answer = host.ask(method, **params)
    assert "result" in answer, answer
    return answer["result"]


def tool(host: Host, name: str, /, **arguments: Any) -> Fields:
    """Call a tool that must succeed; return its structured content."""
    said = result(host, "tools/call", name=name, arguments=arguments)
    assert not said.get("isError"), said
    return said["structuredContent"]


def started(host: Host, name: str, /, **arguments: Any) -> str:
    """Call a tool that starts something; return the id of that, which may have become a task."""
    said = result(host, "tools/call", name=name, arguments=arguments)
    if said.get("resultType") == "task":
        return said["taskId"]
    assert not said.get("isError"), said
    fields = said["structuredContent"]
    return fields["batch_id" if name == "start_batch" else "job_id"]


def refused(host: Host, begins: str, name: str, /, **arguments: Any) -> None:
    """Call a tool that must refuse, in words that begin so."""
    said = result(host, "tools/call", name=name, arguments=arguments)
    assert said["isError"], said
    assert said["content"][0]["text"].startswith(begins), said


def error(host: Host, code: int, method: str, /, **params: Any) -> None:
    """Send a request that must be an error of the protocol."""
    answer = host.ask(method, **params)
    assert answer.get("error", {}).get("code") == code, answer


def check_finished(host: Host, scene: Scene) -> None:
    job = tool(host, "zupertry_check_tryon", job_id=scene.finished, wait_seconds=0)
    assert job["status"] == "completed"
    assert job["outputs"][0]["file"]


def check_waiting(host: Host, scene: Scene) -> None:
    job = tool(host, "zsky_check_job", job_id=scene.waiting, wait_seconds=0)
    assert job["status"] == "queued", job


def check_nobodys(host: Host, scene: Scene) -> None:
    del scene
    refused(host, "[not_found]", "zsky_check_job", job_id=NOBODYS, wait_seconds=0)


def check_batch(host: Host, scene: Scene) -> None:
    batch = tool(host, "check_batch", batch_id=scene.batch, wait_seconds=0)
    assert batch["status"] == "running"


def wait_and_leave(host: Host, scene: Scene) -> None:
    told = host.begin_and_leave(
        "tools/call",
        name="zsky_check_job",
        arguments={"job_id": scene.waiting, "wait_seconds": 25},
        _meta={"progressToken": "waiting"},
    )
    assert told["method"] == "notifications/progress", told
    assert told["params"]["progressToken"] == "waiting"


def list_jobs(host: Host, scene: Scene) -> None:
    del scene
    assert len(tool(host, "list_jobs", limit=5)["jobs"]) == 5


def get_spending(host: Host, scene: Scene) -> None:
    del scene
    assert tool(host, "get_spending")["providers"]


def list_tools(host: Host, scene: Scene) -> None:
    del scene
    assert len(result(host, "tools/list")["tools"]) > 30


def list_resources(host: Host, scene: Scene) -> None:
    del scene
    assert result(host, "resources/list")["resources"]
    assert result(host, "resources/templates/list")["resourceTemplates"]


def read_job(host: Host, scene: Scene) -> None:
    uri = f"darkroom://jobs/{scene.finished}"
    (content,) = result(host, "resources/read", uri=uri)["contents"]
    assert scene.finished in content["text"]


def read_picture(host: Host, scene: Scene) -> None:
    uri = f"darkroom://jobs/{scene.finished}/outputs/0?width=64"
    (content,) = result(host, "resources/read", uri=uri)["contents"]
    assert content["blob"]


def read_nothing(host: Host, scene: Scene) -> None:
    del scene
    error(host, -32602, "resources/read", uri="x:y")


def get_prompt(host: Host, scene: Scene) -> None:
    del scene
    assert result(host, "prompts/list")["prompts"]
    given = {"idea": "a boat on a lake"}
    assert result(host, "prompts/get", name="variants", arguments=given)["messages"]


def complete(host: Host, scene: Scene) -> None:
    ref = {"type": "ref/resource", "uri": "darkroom://jobs/{job_id}"}
    argument = {"name": "job_id", "value": scene.newest[:-2]}
    said = result(host, "completion/complete", ref=ref, argument=argument)
    assert said["completion"]["values"] == [scene.newest]


def mistake(host: Host, scene: Scene) -> None:
    number = next(scene.numbers)
    refused(host, "[invalid_argument] ", "zsky_start_image", prompt="x", **{f"sead{number}": 1})


def unknown_tool(host: Host, scene: Scene) -> None:
    said = result(host, "tools/call", name=f"nothing_{next(scene.numbers)}", arguments={})
    assert said["isError"]


def unknown_method(host: Host, scene: Scene) -> None:
    error(host, -32601, f"nothing/{next(scene.numbers)}")


def nonsense(host: Host, scene: Scene) -> None:
    del scene
    host.say_nonsense()


def subscribe(host: Host, scene: Scene) -> None:
    """Ask to be told of a job, and no more."""
    uri = f"darkroom://jobs/{scene.waiting}"
    if host.revision == "2026-07-28":
        wanted = {"resourceSubscriptions": [uri], "taskIds": [scene.batch, scene.finished]}
        told = host.begin_and_leave("subscriptions/listen", notifications=wanted)
        assert told["method"] == "notifications/subscriptions/acknowledged", told
        assert told["params"]["notifications"]["taskIds"] == wanted["taskIds"]
        return
    result(host, "resources/subscribe", uri=uri)
    if isinstance(host, HttpHost):
        host.look_at_the_stream()
    if next(scene.numbers) % 2:  # otherwise the subscription ends with the session
        result(host, "resources/unsubscribe", uri=uri)


def follow_task(host: Host, scene: Scene) -> None:
    if host.revision == "2025-11-25":
        check_batch(host, scene)
        return
    assert result(host, "tasks/get", taskId=scene.batch)["status"] == "working"
    assert result(host, "tasks/get", taskId=scene.finished)["status"] == "completed"
    error(host, -32602, "tasks/get", taskId=NOBODYS)


def start_and_cancel(host: Host, scene: Scene) -> None:
    """Start what has to wait behind the batch, and think better of it."""
    if host.revision == "2025-11-25":  # has no way but a batch to cancel what waits here
        check_batch(host, scene)
        return
    job_id = started(host, "zsky_start_image", prompt=f"A boat, the {next(scene.numbers)}th")
    result(host, "tasks/cancel", taskId=job_id)
    job = tool(host, "zsky_check_job", job_id=job_id, wait_seconds=25)
    assert job["status"] == "cancelled", job


def come_back(host: Host, scene: Scene) -> None:
    del scene
    host.come_back()


MIX: dict[Callable[[Host, Scene], None], int] = {
    check_finished: 250,
    check_waiting: 60,
    check_nobodys: 60,
    check_batch: 20,
    wait_and_leave: 20,
    list_jobs: 90,
    get_spending: 50,
    list_tools: 50,
    list_resources: 30,
    read_job: 60,
    read_picture: 4,
    read_nothing: 20,
    get_prompt: 40,
    complete: 40,
    mistake: 50,
    unknown_tool: 20,
    unknown_method: 10,
    nonsense: 20,
    subscribe: 30,
    follow_task: 20,
    start_and_cancel: 1,
    come_back: 15,
}
"""How often each, of about a thousand."""


def play(host: Host, scene: Scene, calls: int, seed: int) -> None:
    """Do this and that until ``calls`` more have been made."""
    chance = random.Random(seed)  # noqa: S311 -- repeatable, not secret
    until = host.calls + calls
    for act in MIX:  # each at least once, and in this order
        act(host, scene)
    while host.calls < until:
        (act,) = chance.choices(tuple(MIX), tuple(MIX.values()))
        act(host, scene)
    host.go()
