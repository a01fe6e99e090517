"""Makes outputs of completed images once more whose objects the store has lost."""

import logging
from collections.abc import Collection

from earmark.errors import NotFound
from earmark.ledger.retrying import is_away
from earmark.uploads import _calls
from earmark.uploads.flow import Uploads
from earmark.uploads.model import Image, State
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import Output, PermanentFailure, Processor, processed, source_of
from earmark.uploads.storage import copied

_logger = logging.getLogger("earmark.jobs")


async def remake_lost_outputs(uploads: Uploads, pool: ImagePool, processor: Processor, image: Image) -> bool:
    """Whether a completed image lacked outputs that it has again; those that cannot be made any more are forgotten.

    Its quota stays as it is, whatever the processor says that it used. A failure that may pass is logged, and found
    again by the next `reconcile`.

    Raises:
        psycopg.OperationalError: The database went away.
    """
    try:
        lost = [name for name, output in image.outputs.items() if await uploads.storage.head(output.key) is None]
        return bool(lost) and await _remake(uploads, pool, processor, image, lost)
    except Exception as error:
        if is_away(error):
            raise
        # The processor is the user's: whatever it raises may pass.
        fields = {"image": str(image.image), "error": f"{type(error).__name__}: {error}"}
        _logger.warning("outputs_not_remade", extra=fields)
        return False


async def _remake(uploads: Uploads, pool: ImagePool, processor: Processor, image: Image, lost: Collection[str]) -> bool:
    made = {
        output.name: output
        for output in await _processed_again(uploads, pool, processor, image)
        if output.name in lost and output.content_type == image.outputs[output.name].content_type
    }
    keys = [image.outputs[name].key for name in made]
    for name, output in made.items():
        stored = image.outputs[name]
        await uploads.storage.put(stored.key, output.data, content_type=stored.content_type)
    if forgotten := [name for name in lost if name not in made]:
        async with uploads.pool.connection() as connection:
            await _calls.outputs_lost(connection, image.image, forgotten)
    if not await _is_completed(uploads, image):  # deleted meanwhile, and perhaps swept before these were put
        await uploads.storage.delete(keys)
        return False
    return bool(made)


async def _processed_again(uploads: Uploads, pool: ImagePool, processor: Processor, image: Image) -> tuple[Output, ...]:
    async with copied(uploads.storage, image.key) as path:
        source = source_of(image, path)
        try:
            return (await processed(pool, processor, source)).outputs
        except PermanentFailure:
            return ()


async def _is_completed(uploads: Uploads, image: Image) -> bool:
    try:
        return (await uploads.image(image.image)).state is State.COMPLETED
    except NotFound:
        return False
