"""How all benchmarks print what they measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import quantiles
from typing import TypeVar

from prometheus_client import CollectorRegistry

from sluss import logs

T = TypeVar("T")


def quiet() -> None:
    """Print figures, not each event."""
    logs.configure("warning", "text", CollectorRegistry())


async def measure(items: Sequence[T], at_once: int, work: Callable[[T], Awaitable[None]]) -> tuple[float, list[float]]:
    """Do `work` for each item, so many at once; how long it all took and each one, in seconds."""
    waiting, took = list(reversed(items)), []

    async def worker() -> None:
        while waiting:
            item = waiting.pop()
            start = time.perf_counter()
            await work(item)
            took.append(time.perf_counter() - start)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return time.perf_counter() - start, took


def report(what: str, count: int, seconds: float, took: list[float]) -> None:
    """One line: rate, median and 99th percentile."""
    cuts = quantiles(took, n=100)
    print(f"{what:<44} {count / seconds:8.1f}/s   p50 {cuts[49] * 1000:7.1f} ms   p99 {cuts[98] * 1000:7.1f} ms")
