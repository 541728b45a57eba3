"""The OpenAPI document of the gateway."""

from __future__ import annotations

from typing import Any

import argus
from argus.gateway.bodies import JSON, PICTURES
from argus.gateway.problems import KINDS, MEDIA_TYPE
from argus.gateway.wanted import MAX_USER_CHARS, MOST_PARTIALS
from argus.rpc.checks import MAX_NAME_CHARS, REQUEST_ID
from argus.types import (
    MAX_DEADLINE_S,
    MAX_GUIDANCE,
    MAX_PROMPT_CHARS,
    MAX_SEED,
    MAX_STEPS,
    ImageFormat,
)

Schema = dict[str, Any]

HTTP_PROBLEMS = {405: "method_not_allowed", 406: "not_acceptable", 408: "request_timeout"} | {
    413: "body_too_large",
    415: "unsupported_media_type",
}


def document(max_images: int) -> Schema:
    """Return the document; `max_images` is the most that one request may ask for."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Argus",
            "version": argus.__version__,
            "description": "Images from prompts, in the form of OpenAI's images API.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/images/generations": {"post": _generate()},
            "/v1/models": {"get": _get("listModels", "List what can be asked for.", "ModelList")},
            "/v1/models/{model}": {"get": _model()},
            "/healthz": {"get": _health()},
            "/livez": {"get": _get("live", "Whether the process runs.", "Health", failures=())},
            "/metrics": {"get": _text("metrics", "The gateway's metrics for Prometheus.")},
            "/api/status": {"get": _get("status", "The cluster now and of late.", "Status", ())},
            "/api/events": {
                "get": {
                    "operationId": "events",
                    "summary": "The cluster with every poll, as server-sent events.",
                    "responses": {"200": _content("text/event-stream", {"type": "string"})},
                }
            },
        },
        "components": {
            "schemas": {
                "ImagesRequest": _request(max_images),
                "ImagesResponse": _response(),
                "Model": _model_schema(),
                "ModelList": _object(
                    {"object": {"const": "list"}, "data": _list(_ref("Model"))}, required=True
                ),
                "Health": _object(
                    {
                        "status": {"enum": ["ok", "unavailable"]},
                        "nodes": _list({"type": "string"}),
                        "reason": {"type": ["string", "null"]},
                    }
                ),
                "Status": {"type": "object"},
                "Problem": _problem(),
            }
        },
    }


def _generate() -> Schema:
    pictures = {name: {"schema": {"type": "string", "format": "binary"}} for name in PICTURES}
    return {
        "operationId": "generateImages",
        "summary": "Make images of a prompt.",
        "description": "The answer is JSON, the picture itself where Accept asks for one, or "
        "server-sent events where `stream` is true.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The request id: asking again with the same finds the same images.",
                "schema": {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"},
            }
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref("ImagesRequest")}}},
        "responses": {
            "200": {
                "description": "The images.",
                "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
                "content": {
                    JSON: {"schema": _ref("ImagesResponse")},
                    **pictures,
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **_failures((400, 401, 403, 404, 406, 408, 413, 415, 429, 500, 503, 504)),
        },
    }


def _request(max_images: int) -> Schema:
    number, whole, text, truth = ({"type": t} for t in ("number", "integer", "string", "boolean"))
    name = {**text, "maxLength": MAX_NAME_CHARS}
    prompt = {**text, "minLength": 1, "maxLength": MAX_PROMPT_CHARS}
    fields: Schema = {
        "prompt": {**prompt, "description": "What the pictures show; not only white space."},
        "model": {**name, "description": "A variant; left out, Argus chooses."},
        "n": {**whole, "minimum": 1, "maximum": max_images, "default": 1},
        "size": {
            **text,
            "pattern": "^(auto|[0-9]+[xX][0-9]+)$",
            "default": "auto",
            "description": "WIDTHxHEIGHT in pixels; auto: the variant's own.",
        },
        "output_format": {"enum": [f.value for f in ImageFormat], "default": "png"},
        "response_format": {"enum": ["b64_json"], "default": "b64_json"},
        "stream": {**truth, "default": False},
        "partial_images": {**whole, "minimum": 0, "maximum": MOST_PARTIALS, "default": 0},
        "progress": {**truth, "default": False, "description": "Stream Argus's own events, too."},
        "negative_prompt": {**text, "maxLength": MAX_PROMPT_CHARS},
        "steps": {**whole, "minimum": 1, "maximum": MAX_STEPS},
        "guidance": {**number, "minimum": 0, "maximum": MAX_GUIDANCE},
        "seed": {
            **whole,
            "minimum": 0,
            "maximum": MAX_SEED,
            "description": "Of the first image; image i has seed + i.",
        },
        "deadline": {
            **number,
            "exclusiveMinimum": 0,
            "maximum": MAX_DEADLINE_S,
            "description": "Seconds within which the images must be there.",
        },
        "min_quality": {
            **number,
            "minimum": 0,
            "maximum": 1,
            "description": "Lowest acceptable predicted relative quality.",
        },
        "sampler": name,
        "level": name,
        "eta": {**number, "minimum": 0, "maximum": 1},
        "guidance_rescale": {**number, "minimum": 0, "maximum": 1},
        "true_guidance": {**number, "minimum": 0, "maximum": MAX_GUIDANCE},
        "request_id": {**text, "pattern": f"^{REQUEST_ID.pattern}$"},
        "background": {"enum": ["auto", "opaque"]},
        "moderation": {"enum": ["auto"]},
        "quality": {"enum": ["auto", "standard"]},
        "output_compression": {"enum": [100]},
        "user": {**text, "maxLength": MAX_USER_CHARS},
        "safety_identifier": {**text, "maxLength": MAX_USER_CHARS},
    }
    return {
        "type": "object",
        "properties": {field: _or_null(schema) for field, schema in fields.items()},
        "required": ["prompt"],
        "additionalProperties": False,
    }


def _or_null(schema: Schema) -> Schema:
    """Return the schema of a member that may be null, which is as if it were not there."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    return {**schema, "type": [schema["type"], "null"]}


def _response() -> Schema:
    image = _object(
        {
            "b64_json": {"type": "string", "contentEncoding": "base64"},
            "argus": {"type": "object", "description": "How it was made."},
        },
        required=True,
    )
    return _object(
        {
            "created": {"type": "integer"},
            "background": {"const": "opaque"},
            "output_format": {"enum": [f.value for f in ImageFormat]},
            "size": {"type": "string"},
            "data": _list(image),
        },
        required=True,
    )


def _model_schema() -> Schema:
    return _object(
        {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
            "argus": {"type": "object", "description": "What it allows."},
        },
        required=True,
    )


def _problem() -> Schema:
    codes = sorted({kind.code for _, kind in KINDS} | set(HTTP_PROBLEMS.values()))
    error = _object(
        {
            "message": {"type": "string"},
            "type": {"type": "string"},
            "param": {"type": ["string", "null"]},
            "code": {"type": "string"},
        },
        required=True,
    )
    violation = _object({"field": {"type": "string"}, "detail": {"type": "string"}}, required=True)
    schema = _object(
        {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "examples": codes},
            "error": {**error, "description": "The same in OpenAI's form."},
        },
        required=True,
    )
    schema["properties"] |= {"errors": _list(violation), "retry_after_s": {"type": "number"}}
    return schema


def _model() -> Schema:
    operation = _get("getModel", "Describe one of them.", "Model", (404, 500, 503))
    parameter = {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }
    return {**operation, "parameters": [parameter]}


def _health() -> Schema:
    operation = _get("health", "Whether some node takes work.", "Health", failures=())
    operation["responses"]["503"] = _content(JSON, _ref("Health"), "No node takes work.")
    return operation


def _get(name: str, summary: str, schema: str, failures: tuple[int, ...] = (500, 503)) -> Schema:
    responses = {"200": _content(JSON, _ref(schema)), **_failures(failures)}
    return {"operationId": name, "summary": summary, "responses": responses}


def _text(name: str, summary: str) -> Schema:
    responses = {"200": _content("text/plain", {"type": "string"})}
    return {"operationId": name, "summary": summary, "responses": responses}


def _failures(statuses: tuple[int, ...]) -> Schema:
    told = {kind.status: kind.title for _, kind in KINDS}
    failures = {}
    for status in statuses:
        title = told.get(status) or HTTP_PROBLEMS[status].replace("_", " ")
        failures[str(status)] = _content(MEDIA_TYPE, _ref("Problem"), title)
    if "429" in failures:
        seconds = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
        failures["429"]["headers"] = {"Retry-After": seconds}
    return failures


def _content(media_type: str, schema: Schema, description: str = "The answer.") -> Schema:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _object(properties: Schema, required: bool = False) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": list(properties)} if required else schema


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
