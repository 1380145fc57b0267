"""When all places are taken, the engine is left in peace until one is free; then it looks, whatever was announced."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from document_service.queue import HEARTBEAT_TIMEOUT, _Driver, _Manager, engine_queries

ANNOUNCED = '{"channel": "document_render", "type": "table_changed_event", "operation": "insert", "table": "pgqueuer"}'
HEALTH = '{"channel": "document_render", "type": "health_check_event", "id": "0"}'


def manager_with_one_place(told: list[Any]) -> _Manager:
    # No statement is sent: a full manager asks nothing of the database.
    driver = _Driver(SimpleNamespace(engine=None))  # type: ignore[arg-type]
    driver._callback = told.append
    manager = _Manager(engine_queries(driver))
    manager.driver, manager.most = driver, 1
    return manager


async def claimed(manager: _Manager) -> list[Any]:
    return [job async for job in manager.fetch_jobs(1, None, HEARTBEAT_TIMEOUT)]


async def test_work_announced_while_all_places_are_taken_is_looked_for_when_one_is_free() -> None:
    told: list[Any] = []
    manager = manager_with_one_place(told)
    in_hand: Any = SimpleNamespace()
    manager.job_context[1] = in_hand  # type: ignore[index]

    assert await claimed(manager) == []
    for _ in range(3):
        manager.driver._hear(ANNOUNCED)
    assert told == []
    manager.driver._hear(HEALTH)
    assert told == [HEALTH]  # What is no work is passed on at any time.

    ended = asyncio.create_task(asyncio.sleep(0))
    await ended
    manager.forget_job(1, in_hand, ended)  # type: ignore[arg-type]
    assert len(told) == 2
    assert "table_changed_event" in told[1]


async def test_of_many_announcements_the_engine_is_told_one() -> None:
    told: list[Any] = []
    driver = manager_with_one_place(told).driver
    for _ in range(3):
        driver._hear(ANNOUNCED)
    assert told == [ANNOUNCED]
    assert driver.heard == 3
