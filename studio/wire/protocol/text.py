"""Text messages: JSON objects with a "type". Parsing raises nothing but ProtocolError."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from studio.wire.protocol.messages import (
    DELIVERIES,
    MAX_REQUEST,
    MAX_TEXT,
    VERSION,
    Bye,
    ClientMessage,
    FitWish,
    Hello,
    Keep,
    Patch,
    Pause,
    PictureEncoding,
    Ping,
    ProtocolError,
    References,
    SpecChange,
)

# Text messages of the client.


def parse_text(text: str) -> ClientMessage:
    """The message in `text`. Raises ProtocolError."""
    if len(text) > MAX_TEXT:
        raise ProtocolError(f"the message is {len(text)} characters long; {MAX_TEXT} are allowed")
    message = _object(text)
    kind = message.pop("type", None)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ProtocolError(f"{brief(kind)} is no message type; known are {', '.join(_READERS)}", field="type")
    request = message.get("request")
    try:
        return reader(message)
    except ProtocolError as error:
        if isinstance(request, int) and not isinstance(request, bool) and 0 <= request <= MAX_REQUEST:
            error.request = request
        raise


def _object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the message is not JSON") from error
    if not isinstance(message, dict):
        raise ProtocolError("the message is not a JSON object")
    return message


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _hello(message: dict[str, Any]) -> Hello:
    _known(message, {"protocol", "token", "resume", "settings", "picture", "client", "wait", "delivery"}, {"protocol"})
    if message["protocol"] is True or message["protocol"] != VERSION:
        raise ProtocolError(f"protocol {brief(message['protocol'])} is not supported; {VERSION} is", field="protocol")
    client = _text(message, "client", 80)
    if not client.isprintable():
        raise ProtocolError("client holds unprintable characters", field="client")
    delivery = message.get("delivery", "newest")
    if delivery not in DELIVERIES:
        raise ProtocolError(f"{brief(delivery)} is not one of {', '.join(DELIVERIES)}", field="delivery")
    return Hello(
        protocol=VERSION,
        token=_text(message, "token", 256) if "token" in message else None,
        resume=_text(message, "resume", 256) if "resume" in message else None,
        settings=_mapping(message, "settings"),
        picture=_picture_encoding(_mapping(message, "picture")),
        client=client,
        wait=_flag(message, "wait") if "wait" in message else False,
        delivery=delivery,
    )


def _picture_encoding(message: dict[str, Any]) -> PictureEncoding:
    _known(message, {"format", "quality"}, set(), prefix="picture.")
    kind, quality = message.get("format", "jpeg"), message.get("quality", 85)
    if kind not in ("jpeg", "png"):
        raise ProtocolError(f"{brief(kind)} is not one of jpeg, png", field="picture.format")
    if not isinstance(quality, int) or isinstance(quality, bool) or not 30 <= quality <= 100:
        raise ProtocolError(f"{brief(quality)} is not a whole number from 30 to 100", field="picture.quality")
    return PictureEncoding(kind, quality)


def _patch(message: dict[str, Any]) -> Patch:
    _known(message, {"patch", "request"}, {"patch"})
    return Patch(_mapping(message, "patch"), _request(message))


def _spec(message: dict[str, Any]) -> SpecChange:
    _known(message, {"spec", "request"}, {"spec"})
    return SpecChange(_mapping(message, "spec"), _request(message))


def _request(message: dict[str, Any]) -> int | None:
    request = message.get("request")
    if request is not None and (not isinstance(request, int) or isinstance(request, bool) or not 0 <= request <= MAX_REQUEST):
        raise ProtocolError(f"{brief(request)} is not a whole number from 0 to {MAX_REQUEST}", field="request")
    return request


def _pause(message: dict[str, Any]) -> Pause:
    _known(message, {"paused"}, {"paused"})
    return Pause(_flag(message, "paused"))


def _references(message: dict[str, Any]) -> References:
    _known(message, {"wanted"}, {"wanted"})
    return References(_flag(message, "wanted"))


def _fit(message: dict[str, Any]) -> FitWish:
    _known(message, {"wanted"}, {"wanted"})
    return FitWish(_flag(message, "wanted"))


def _keep(message: dict[str, Any]) -> Keep:
    _known(message, {"name", "request"}, {"name"})
    name = " ".join(_text(message, "name", 60).split())
    if not name or not name.isprintable():
        raise ProtocolError("name must be 1 to 60 printable characters", field="name")
    return Keep(name, _request(message))


def _ping(message: dict[str, Any]) -> Ping:
    _known(message, {"t"}, {"t"})
    value = message["t"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ProtocolError(f"{brief(value)} is not a finite number", field="t")
    return Ping(value)


def _bye(message: dict[str, Any]) -> Bye:
    _known(message, set(), set())
    return Bye()


_READERS: dict[str, Callable[[dict[str, Any]], ClientMessage]] = {
    "hello": _hello,
    "settings": _patch,
    "spec": _spec,
    "pause": _pause,
    "references": _references,
    "fit": _fit,
    "keep": _keep,
    "ping": _ping,
    "bye": _bye,
}


def _known(message: dict[str, Any], allowed: set[str], required: set[str], prefix: str = "") -> None:
    for key in message:
        if key not in allowed:
            raise ProtocolError(f"{brief(key)} is no field of this message", field=prefix + brief(key).strip("'"))
    for key in sorted(required):
        if key not in message:
            raise ProtocolError(f"{key} is missing", field=prefix + key)


def _flag(message: dict[str, Any], key: str) -> bool:
    value = message[key]
    if not isinstance(value, bool):
        raise ProtocolError(f"{brief(value)} is not true or false", field=key)
    return value


def _text(message: dict[str, Any], key: str, limit: int) -> str:
    value = message.get(key, "")
    if not isinstance(value, str):
        raise ProtocolError(f"{brief(value)} is not text", field=key)
    if len(value) > limit:
        raise ProtocolError(f"{key} is {len(value)} characters long; {limit} are allowed", field=key)
    return value


def _mapping(message: dict[str, Any], key: str) -> dict[str, Any]:
    value = message.get(key, {})
    if not isinstance(value, dict):
        raise ProtocolError(f"{brief(value)} is not an object", field=key)
    return value


def brief(value: object) -> str:
    """`value` for an error message: at most 40 characters."""
    shown = repr(value) if not isinstance(value, dict | list) else type(value).__name__
    return shown if len(shown) <= 40 else shown[:37] + "..."


# Text messages of the server.


def pack_text(kind: str, **values: object) -> str:
    """A text message; fields that are None are left out unless they stand inside another."""
    return json.dumps({"type": kind, **{key: value for key, value in values.items() if value is not None}}, allow_nan=False)


def error_text(
    code: str,
    message: str,
    *,
    fatal: bool = False,
    field: str | None = None,
    request: int | None = None,
    frame: int | None = None,
) -> str:
    """An error message, cut to 400 characters; codes are listed in docs/protocol-messages.md."""
    return pack_text("error", code=code, message=message[:400], fatal=fatal, field=field, request=request, frame=frame)


def parse_server_text(text: str) -> dict[str, Any]:
    """A server's text message as a dict with "type". Raises ProtocolError."""
    message = _object(text)
    if not isinstance(message.get("type"), str):
        raise ProtocolError("the message has no type", field="type")
    return message


def declare(fields: Mapping[str, Any], opening: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The declaration of every setting for a welcome, from `pipelines.FIELDS` (dotted key → dataclass field).

    The default of each is what sessions start with here, `opening`.
    """
    return {
        key: {"default": opening.get(key, item.default)}
        | {name: list(rule) if isinstance(rule, tuple) else rule for name, rule in item.metadata.items()}
        for key, item in fields.items()
    }
