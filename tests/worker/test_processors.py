"""Processors of the user's own: whatever they raise or return, the image ends, in its tries, and its quota is back."""

import asyncio
import os
from dataclasses import replace

import psycopg
import pytest

from earmark.uploads.processing import Output, PermanentFailure, Processed, Source, make_thumbnail
from earmark.uploads.storage import InvalidKey, ObjectMissing, StorageUnavailable
from fixtures.pictures import picture

JPEG = picture()

RAISED = {
    "its database": psycopg.OperationalError("connection refused"),
    "its store": StorageUnavailable("the bucket does not answer"),
    "its key": InvalidKey("not a storage key"),
    "its object": ObjectMissing("there is no object"),
    "time": TimeoutError(),
    "end of a generator": StopIteration(1),
    "exit": SystemExit(0),
    "interrupt": KeyboardInterrupt(),
    "cancel": asyncio.CancelledError(),
    "memory": MemoryError(),
    "group": ExceptionGroup("several", [ValueError("one")]),
}
RETURNED = {
    "nothing": lambda _: None,
    "its outputs": lambda made: made.outputs,
    "a key that is none": lambda made: replace(made, outputs=(Output("../large", "image/webp", b"x"),)),
    "a name with a space": lambda made: replace(made, outputs=(Output("Large one", "image/webp", b"x"),)),
    "one name twice": lambda made: replace(made, outputs=made.outputs * 2),
    "text for bytes": lambda made: replace(made, outputs=(Output("caption", "text/plain", "a cat"),)),
    "no content type": lambda made: replace(made, outputs=(Output("caption", "text\n", b"a cat"),)),
    "a width in words": lambda made: replace(made, width="wide"),
    "a colour that is none": lambda made: replace(made, colors=(1,)),
    "a number that is none": lambda made: replace(made, height=float("nan")),
    "a text that no database takes": lambda made: replace(made, format="jp\0g"),
    "less than nothing": lambda made: replace(made, actual={"storage_bytes": -1}),
    "parts of a credit": lambda made: replace(made, actual={"storage_bytes": 1.5}),
    "a resource that nobody counts": lambda made: replace(made, actual={"Sparkles!": 1}),
}


def raises(source: Source) -> Processed:
    raise RAISED[source.filename.removesuffix(".jpg")]


def returns(source: Source) -> Processed:
    return RETURNED[source.filename.removesuffix(".jpg")](make_thumbnail(source))


def dies(source: Source) -> Processed:
    os._exit(3)


@pytest.mark.parametrize(
    ("processor", "name"),
    [*((raises, name) for name in RAISED), *((returns, name) for name in RETURNED), (dies, "died")],
)
def test_what_a_processor_does_wrong_costs_its_tries_and_no_quota(flow_of, processor, name):
    async def run():
        async with flow_of(processing_attempts=2, retry_base_seconds=0.001) as flow:
            image = await flow.uploaded(JPEG, filename=f"{name}.jpg")
            assert [await flow.jobs(processor).run(image.image) for _ in range(2)] == ["retrying", "failed"]
            ended = await flow.uploads.image(image.image)
            assert (ended.state, ended.reason) == ("failed", "Processing failed.")
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def complains(source: Source) -> Processed:
    raise PermanentFailure("No\0 face \ud800\n" + "in it " * 1000)


def test_what_it_tells_the_user_is_one_line_of_text(flow_of):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            assert await flow.jobs(complains).run(image.image) == "failed"
            reason = (await flow.uploads.image(image.image)).reason
            assert reason.startswith("Processing failed: No face ? in it in it")
            assert len(reason) == 500
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())
