"""A batch on ComfyUI servers, from the first greeting to the last file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import aiohttp
from rich.console import Console
from rich.markup import escape
from yarl import URL

from ....errors import BadInput, LongtakeError
from ...workflow.graph import Workflow, load
from ...workflow.node_spec import NodeSpec
from ..display import open_display
from ..record import Records
from ..row import BatchSpec, build_rows
from .answers import BadAnswer
from .client import TIMEOUT, Client, ServerLost
from .pool import Pool
from .worker import Worker

GREETINGS, GREETING_PAUSE_S = 3, 1.0


async def run_on_servers(
    spec: BatchSpec, urls: Sequence[URL], patience_s: float, records: Records, console: Console
) -> None:
    """Run all rows; `records` always holds their current state.

    A server that does not answer for `patience_s` is left out.
    """
    workflows = [load(path) for path in spec.workflows]
    async with _clients(urls, records.batch_id) as clients:
        specs = await _specs(clients, workflows, console)
        rows = list(build_rows(workflows, spec, specs))
        records.merge_rows(row.record for row in rows)
        pool = Pool(rows, records, [client.name for client in clients])
        with open_display(console, records.rows) as display:
            workers = [Worker(client, pool, records, display, patience_s) for client in clients]
            await asyncio.gather(*(worker.run() for worker in workers))


@asynccontextmanager
async def _clients(urls: Sequence[URL], batch_id: str) -> AsyncIterator[list[Client]]:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        clients = {client.name: client for client in (Client(session, u, batch_id) for u in urls)}
        yield list(clients.values())


async def _specs(
    clients: list[Client], workflows: Sequence[Workflow], console: Console
) -> Mapping[str, NodeSpec]:
    """Return the workflows' node types from the first server that answers; remove each server
    that cannot be trusted from `clients`.
    """
    types = [node.class_type for flow in workflows for node in flow.nodes.values()]
    lost: dict[str, str] = {}
    for _ in range(GREETINGS):
        for client in await _greet(clients, lost, console):
            try:
                return await client.specs(types)
            except ServerLost as error:
                lost[client.name] = str(error)
            except BadAnswer as error:
                _remove(client, clients, f"{client.name} is set aside: {error}.", console)
        await asyncio.sleep(GREETING_PAUSE_S)
    names = ", ".join(f"{name} ({reason})" for name, reason in lost.items())
    raise LongtakeError(f"No server answers: {names}; start ComfyUI there or check --server.")


async def _greet(clients: list[Client], lost: dict[str, str], console: Console) -> list[Client]:
    """Return the servers that answer now, and note why others do not in `lost`."""
    servers = []
    for client in list(clients):
        try:
            await client.greet()
            servers.append(client)
            lost.pop(client.name, None)
        except ServerLost as error:
            lost[client.name] = str(error)
        except (BadInput, BadAnswer) as error:
            _remove(client, clients, str(error), console)
    return servers


def _remove(client: Client, clients: list[Client], reason: str, console: Console) -> None:
    if len(clients) == 1:
        raise LongtakeError(reason)
    clients.remove(client)
    console.print(escape(f"{reason} The other servers go on."), style="yellow", highlight=False)
