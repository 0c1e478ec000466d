"""Figures for Prometheus: of requests, and of each engine as it stands.

https://prometheus.io/docs/instrumenting/exposition_formats/. Engines are asked when somebody looks, and never before.
Read next: infer/ask.py (Stats)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cutaway.infer.ask import Stats

PATHS = {"/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/models"}
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
COUNTED = {
    "prefix_hits": "answers that found the beginning of their prompt read already",
    "prefix_tokens": "prompt tokens that were found read already",
    "prompt_tokens": "tokens of prompts",
    "written_tokens": "tokens that were written",
    "preemptions": "answers that gave their pages to others and were read again",
    "steps": "passes through the model",
    "accepted": "proposed tokens that stood",
    "proposed": "tokens that speculation proposed",
}
SHOWN = {
    "running": "answers that are being written",
    "waiting": "answers that wait",
    "pages": "pages of the cache",
    "pages_held": "pages that somebody holds",
    "pages_shared": "pages that several hold",
    "tokens_per_second": "tokens written, lately",
}


class Metrics:
    """`engines`: gives the stats of each engine by its model's name."""

    def __init__(self, engines: Callable[[], Mapping[str, Stats]]):
        self.registry = CollectorRegistry()
        told = {"registry": self.registry, "namespace": "cutaway"}
        self._requests = Counter("requests", "requests that ended", ["path", "status"], **told)
        self._seconds = Histogram(
            "request_seconds", "from the first byte to the last", ["path"], buckets=SECONDS, **told
        )
        self._first = Histogram("first_token_seconds", "to the first token", ["model"], buckets=SECONDS, **told)
        self._running = Gauge("requests_running", "requests that have their turn", **told)
        self._waiting = Gauge("requests_waiting", "requests that wait for their turn", **told)
        self.registry.register(_Engines(engines))

    def request(self, path: str, status: int, seconds: float) -> None:
        known = path if path in PATHS else "other"
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def first_token(self, model: str, seconds: float) -> None:
        self._first.labels(model).observe(seconds)

    def turns(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Where the two gauges look."""
        self._running.set_function(running)
        self._waiting.set_function(waiting)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Engines:
    def __init__(self, engines: Callable[[], Mapping[str, Stats]]):
        self.engines = engines

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        stats = self.engines()
        for name, help in COUNTED.items():
            counter = CounterMetricFamily(f"cutaway_{name}", help, labels=["model"])
            for model, one in stats.items():
                counter.add_metric([model], getattr(one, name))
            yield counter
        for name, help in SHOWN.items():
            gauge = GaugeMetricFamily(f"cutaway_{name}", help, labels=["model"])
            for model, one in stats.items():
                gauge.add_metric([model], getattr(one, name))
            yield gauge
