"""Feedback is written in batches, by work that ends when the gateway does."""

import asyncio

import pytest

from star_contracts.job import Store
from star_jobs.serve import feedback
from star_jobs.serve.feedback import FeedbackSink
from star_jobs.serve.metrics import Metrics
from star_jobs.serve.models import Feedback, FeedbackEvent


async def test_writing_ends_when_told_to_though_a_batch_is_full_at_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feedback, "FLUSH_EVENTS", 1)
    sink = FeedbackSink(Metrics(), "gateway-0")
    sink.configure(Store(endpoint="http://127.0.0.1:9"), "s3://star/feedback")

    async def flush() -> bool:
        return True

    monkeypatch.setattr(sink, "flush", flush)
    writing = asyncio.create_task(sink.flush_for_ever())
    for _ in range(5):
        await asyncio.sleep(0)
    sink.take(Feedback(request_id="r", item_id="i", event=FeedbackEvent("click")))
    await asyncio.sleep(0)
    writing.cancel()
    done, _ = await asyncio.wait([writing], timeout=5)
    assert done, "the gateway would wait for it for ever when it ends"
