"""POST /v1/embeddings: one vector for each text.

https://platform.openai.com/docs/api-reference/embeddings. `base64` is the vector's float32 numbers, little end first,
which the `openai` client asks for by itself. Token ids are refused: an id means something to one tokenizer only, and
clients would send those of another.   Read next: infer/embedding.py
"""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

from fastapi import APIRouter, Request, Response

from cutaway.serve.bodies import EmbeddingBody
from cutaway.serve.desk import Desk, deadline
from cutaway.serve.faults import Fault, Json
from cutaway.serve.streaming import unless_left

router = APIRouter()


@router.post("/v1/embeddings", summary="Turn texts to vectors")
async def embeddings(request: Request, body: EmbeddingBody) -> Response:
    desk = Desk.of(request)
    embedder = desk.roster.embedder(body.model)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not 0 < len(texts) <= desk.bounds.texts:
        raise Fault(400, f"input: from 1 to {desk.bounds.texts} texts, there are {len(texts)}", param="input")
    dim = embedder.language.spec.dim
    if body.dimensions not in (None, dim):
        raise Fault(400, f"dimensions: this model's vectors have {dim} numbers", param="dimensions")
    try:
        async with asyncio.timeout_at(deadline(request)):
            made = await unless_left(request.receive, embedder.embed(texts))
    except TimeoutError:
        raise Fault(503, "the texts could not be embedded in time", code="timeout") from None
    if made is None:
        raise Fault(499, "the client left")
    vectors, read = made
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": read, "total_tokens": read}
    return Json({"object": "list", "data": data, "model": embedder.name, "usage": usage})


def _written(vector: list[float], form: str | None) -> Any:
    if form != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
