"""What goes wrong, told in the shape that clients of OpenAI's API know.

    {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
https://platform.openai.com/docs/guides/error-codes.   Read next: serve/app.py (who tells them)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response

from cutaway.base.errors import BadInput, CutawayError

KINDS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
KINDS |= {429: "rate_limit_error", 503: "overloaded_error"}
ENDING = "the server is shutting down"


class Fault(Exception):
    """Ends a request with a status and one clear line. `param`: the field that is wrong; `code`: a word for programs;
    `later`: seconds after which the same request may go well."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        later: int | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        if later is not None:
            self.headers["retry-after"] = str(later)
        super().__init__(message)

    @property
    def body(self) -> dict[str, Any]:
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class Json(Response):
    """A value as JSON. Half of a surrogate pair, which a request may hold and UTF-8 cannot, becomes a question mark."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encoded(content)


def encoded(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def told(fault: Fault) -> Json:
    return Json(fault.body, fault.status, fault.headers)


def fault_of(error: CutawayError) -> Fault:
    """What an error of the house is to a client: its own doing, or a queue that is full."""
    if isinstance(error, BadInput):
        message = f"{error.field}: {error.message}" if error.field else error.message
        code = "context_length_exceeded" if "the model's context" in message else None
        return Fault(400, message, param=error.field, code=code)
    return Fault(500, str(error))
