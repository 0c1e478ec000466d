"""The application: all routes, who may use them, and how errors are told.

    app = application(Roster([Speaker("tiny", service)]), Bounds())
From the outside in: the gate (keys, origins), turns (bodies, the queue, the time), routes.
Read next: serve/gate.py, serve/turns.py, serve/chat.py, serve/run.py
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi

from cutaway import __version__
from cutaway.base.errors import CutawayError
from cutaway.serve import chat, completions, embeddings
from cutaway.serve.bounds import Bounds
from cutaway.serve.desk import Desk
from cutaway.serve.faults import ENDING, Fault, Json, fault_of, told
from cutaway.serve.gate import Gate
from cutaway.serve.metrics import Metrics
from cutaway.serve.roster import Embedder, Roster, Speaker
from cutaway.serve.turns import Turns

router = APIRouter()
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
STATUSES = {
    400: "What was asked for is wrong or impossible; `param` names the field.",
    401: "No API key, or a wrong one.",
    403: "A page of another site, or a name that this server does not go by.",
    404: "There is no such model.",
    405: "No such method here.",
    408: "The request did not come in time.",
    413: "The body is too large.",
    429: "Too many requests at once; Retry-After says when to come again.",
    500: "The server failed.",
    503: "The server is shutting down, or no turn came in time.",
}


def application(
    roster: Roster, bounds: Bounds | None = None, *, keys: Iterable[str] = (), hosts: Iterable[str] | None = None
) -> FastAPI:
    """`keys`, `hosts`: see `Gate`."""
    app = FastAPI(title="Cutaway", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    metrics = Metrics(lambda: {one.name: one.service.stats() for one in roster.speakers})
    turns = Turns(bounds or Bounds(), metrics.request)
    metrics.turns(lambda: turns.running, lambda: turns.waiting)
    app.state.desk = Desk(roster=roster, bounds=turns.bounds, metrics=metrics, turns=turns)
    for part in (router, completions.router, chat.router, embeddings.router):
        app.include_router(part)
    app.openapi = lambda: _openapi(app)
    app.add_exception_handler(Fault, _tell)
    app.add_exception_handler(CutawayError, _tell)
    app.add_exception_handler(RequestValidationError, _tell)
    for status in range(400, 500):  # what the routes themselves find: no such path, no such method
        app.add_exception_handler(status, _tell)
    app.add_exception_handler(Exception, _tell)
    app.add_middleware(turns.around)
    app.add_middleware(Gate, keys=tuple(keys), hosts=hosts)
    return app


@router.get("/health", summary="Whether the server answers")
async def health(request: Request) -> Response:
    turns = Desk.of(request).turns
    if turns.ending:
        raise Fault(503, ENDING, later=turns.later)
    return Json({"status": "ok", "models": list(Desk.of(request).roster.models)})


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
async def figures(request: Request) -> Response:
    return Response(Desk.of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models", summary="The models that are served")
async def models(request: Request) -> Response:
    return Json({"object": "list", "data": [_card(one) for one in Desk.of(request).roster.models.values()]})


@router.get("/v1/models/{model:path}", summary="One model")
async def model(request: Request, model: str) -> Response:
    return Json(_card(Desk.of(request).roster.find(model)))


def _card(one: Speaker | Embedder) -> dict[str, Any]:
    made = {"id": one.name, "object": "model", "created": one.created, "owned_by": "cutaway"}
    return {**made, "max_model_len": one.context, "embeds": isinstance(one, Embedder)}


def _tell(request: Request, error: Exception) -> Response:
    """Any error in OpenAI's shape; one that nobody foresaw is told without what it says, which may be about us."""
    if isinstance(error, Fault):
        return told(error)
    if isinstance(error, CutawayError):
        turns = Desk.of(request).turns
        return told(Fault(503, ENDING, later=turns.later) if turns.ending else fault_of(error))
    if isinstance(error, RequestValidationError):
        return told(_invalid(error))
    status = getattr(error, "status_code", 500)
    if status < 500:
        return told(Fault(status, str(getattr(error, "detail", "")), headers=getattr(error, "headers", None)))
    return told(Fault(500, "the server failed; its log says why"))


def _invalid(error: RequestValidationError) -> Fault:
    """The first field that is wrong. A list of alternatives has one complaint for each: those are all about one."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    param = ".".join(place) or None
    said = first["msg"] + (f": {first['ctx']['error']}" if first["type"] == "json_invalid" else "")
    return Fault(400, f"{param}: {said}" if param and first["type"] != "json_invalid" else said, param=param)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """What FastAPI finds in the routes, with the errors as they are told here."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        for path in schema["paths"].values():
            for operation in path.values():
                replies = operation["responses"]
                replies.pop("422", None)
                replies |= {str(code): {"description": said, "content": content} for code, said in STATUSES.items()}
        parts = schema.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            parts.pop(name, None)
        parts["Error"] = ERROR
        app.openapi_schema = schema
    return app.openapi_schema
