"""Two hundred users at once: nobody's answer is lost, nobody gets another's, and the server's memory stays flat."""

import asyncio
import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

pytest.importorskip("gradio", reason='no Gradio here: pip install -e ".[app]"')

from tests.app.copying import MADE, copying_server, digest, pair
from tests.app.serving import TLS

pytestmark = pytest.mark.slow

USERS = 200
GROWTH = 24 << 20
"""The bytes by which a server may be larger after the next hundred users."""


@dataclass
class User:
    """A user of the API, who has a clip and settings that no other user has."""

    client: httpx.AsyncClient
    number: int
    owner: str = field(default_factory=lambda: secrets.token_hex(32))
    files: list = field(default_factory=list)
    job: str = ""
    results: dict = field(default_factory=dict)

    @property
    def headers(self):
        return {"x-owner": self.owner}

    async def call(self, name, *values):
        body = {"data": list(values)}
        joined = await self.client.post(f"/gradio_api/call/{name}", json=body, headers=self.headers)
        joined.raise_for_status()
        said = await self.client.get(f"/gradio_api/call/{name}/{joined.json()['event_id']}", headers=self.headers)
        [(kind, data)] = re.findall(r"(?s)event: (\w+)\ndata: (.*?)\n\n", said.text)[-1:]
        assert kind == "complete", said.text
        return json.loads(data)[0]

    async def upload(self):
        parts = [("files", (name, content, "image/png")) for name, content in pair(self.number)]
        answer = await self.client.post("/gradio_api/upload", files=parts, headers=self.headers)
        answer.raise_for_status()
        self.files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in answer.json()]
        assert [Path(path).name for path in answer.json()] == [name for name, _ in pair(self.number)]

    @property
    def settings(self):
        return {
            "prompt": f"user {self.number}",
            "seed": self.number,
            "slow_motion": f"{1 + self.number}",
            "rate": "24",
            "steps": 2,
        }

    async def plan(self):
        plan = await self.call("plan", self.files, self.settings)
        return plan["seconds"]

    async def submit(self):
        self.job = (await self.call("submit", self.files, self.settings))["job"]

    async def wait(self):
        while (progress := await self.call("progress", self.job))["state"] != "done":
            assert progress["state"] in ("queued", "running")
            await asyncio.sleep(0.5)
        assert progress["job"] == self.job
        self.results = progress["results"]

    async def result(self):
        """Check that the job, its result and its record are this user's."""
        assert [each["job"] for each in await self.call("jobs")] == [self.job]
        answers = {}
        for kind, path in self.results.items():
            answers[kind] = await self.client.get(path, headers=self.headers)
            answers[kind].raise_for_status()
        record = answers["record"].json()["settings"]
        assert (record["prompt"], record["seed"]) == (f"user {self.number}", self.number)
        assert answers["video"].content == digest(pair(self.number)[0][1])
        return answers["video"].content


async def all_at_once(users, do):
    return await asyncio.gather(*(do(user) for user in users))


async def serve_users(address, numbers):
    """Have users do everything, each step all at once; return what their plans say, and their results."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits, verify=TLS) as client:
        users = [User(client, number) for number in numbers]
        await all_at_once(users, User.upload)
        plans = await all_at_once(users, User.plan)
        await all_at_once(users, User.submit)
        for user in users:
            await user.wait()
        return plans, await all_at_once(users, User.result)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with copying_server(tmp_path_factory.mktemp("load") / "data", "--keep", 1000) as server:
        yield server


@pytest.mark.thorough
def test_two_hundred_users_at_once_get_their_own_and_the_memory_stays_flat(server):
    plans, results = asyncio.run(serve_users(server.address, range(USERS)))
    assert plans == sorted(plans)
    assert len(set(plans)) == len(set(results)) == USERS
    made = (server.folder / MADE).read_text().split()
    assert len(made) == len(set(made)) == USERS
    held = server.memory()
    asyncio.run(serve_users(server.address, range(USERS, USERS + 100)))
    assert server.memory() - held < GROWTH
