"""Validation errors in one sentence: the field, what was found, what may stand there, and what to do.

What may stand there is read from the JSON schema of the request, so that it is written down once, in the models.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import AppError

Document = dict[str, Any]
Node = dict[str, Any]

SHOWN_CHARACTERS = 60
SHOWN_VALUES = 20
PLACES = {"body": "field", "query": "query parameter", "path": "path parameter", "form": "form field"}


@dataclass(frozen=True)
class Spot:
    """Where a problem lies: its path as the client would write it, and the schemas that apply there."""

    path: str
    parent: str
    nodes: list[Node]
    siblings: list[str]


def refusal(
    problems: Sequence[Any], value: object, schema: Node, document: Document, *, place: str = "body"
) -> AppError:
    """400 for the first of pydantic's `problems` with `value`; `errors` names every one when there are several."""
    refused = [_refuse(problem, value, schema, document, place) for problem in problems]
    found = {error.param: error for error in reversed(refused)}
    # Each alternative of a union complains; the one that the value came closest to complains about the deepest field.
    deepest = [
        error for param, error in reversed(found.items()) if not any(_is_inside(other, param) for other in found)
    ]
    first = deepest[0]
    if len(deepest) > 1:
        first.extra["errors"] = [{"param": error.param, "message": error.message} for error in deepest]
    return first


def _is_inside(param: str | None, outer: str | None) -> bool:
    return param is not None and param != outer and (outer is None or param.startswith((f"{outer}.", f"{outer}[")))


def _refuse(problem: Any, value: object, schema: Node, document: Document, place: str) -> AppError:
    spot = _locate(problem["loc"], value, schema, document)
    name, kind = spot.path or None, problem["type"]
    if kind == "extra_forbidden":
        last = str(problem["loc"][-1])
        near = difflib.get_close_matches(last, spot.siblings, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(spot.siblings) or 'none'}."
        within = f" in {spot.parent}" if spot.parent else ""
        message = f"Unknown {PLACES[place]} {last!r}{within}; {hint}"
        return AppError(400, "unknown_field", message, name, {"allowed": spot.siblings})
    if kind == "value_error":
        subject = f"{name}: " if name else ""
        return AppError(400, "invalid_value", f"{subject}{problem['ctx']['error']}.", name)
    nodes, value = spot.nodes, problem["input"]
    if kind.startswith("union_tag_"):  # the field that tells the alternatives apart is missing or names none
        tag = problem["ctx"]["discriminator"].strip("'")
        kind = "missing" if kind == "union_tag_not_found" else kind
        tags = [node["properties"][tag] for node in nodes if "properties" in node]
        nodes = [item for node in tags for item in variants(node, document)]
        name, value = f"{spot.path}.{tag}".lstrip("."), _child(value, tag)
    allowed, values = describe(nodes, document)
    extra = {"allowed": list(values)} if values else {}
    if kind == "missing":
        message = f"{name} is missing; give {allowed}." if name else "The request has no body; send a JSON object."
        return AppError(400, "missing_field", message, name, extra)
    return AppError(400, "invalid_value", f"{name or 'The body'} is {shorten(value)}; give {allowed}.", name, extra)


def _locate(loc: Sequence[int | str], value: object, schema: Node, document: Document) -> Spot:
    """Follow pydantic's location through value and schema; steps that name union branches exist in neither."""
    nodes, path, parent, siblings = variants(schema, document), "", "", list[str]()
    above = nodes
    for step in loc:
        properties = {name: node for item in nodes for name, node in item.get("properties", {}).items()}
        if step in properties:
            following = variants(properties[str(step)], document)
        elif isinstance(value, dict) and step in value:
            others = [item["additionalProperties"] for item in nodes if item.get("additionalProperties")]
            following = [node for other in others for node in variants(other, document)]
        elif step == "[key]":  # pydantic's way of saying that the name before is wrong, not its value
            nodes = [{"type": "string"} | item["propertyNames"] for item in above if "propertyNames" in item]
            continue
        elif isinstance(value, list) and isinstance(step, int):
            following = [node for item in nodes for node in variants(item.get("items", {}), document)]
        else:  # the step names the alternative that the value's own tag has chosen
            nodes = [item for item in nodes if _is_tagged(item, step)] or nodes
            continue
        parent, siblings, above, nodes = path, sorted(properties), nodes, following
        path = f"{path}[{step}]" if isinstance(step, int) else f"{path}.{step}".lstrip(".")
        value = _child(value, step)
    return Spot(path, parent, nodes, siblings)


def _is_tagged(node: Node, tag: object) -> bool:
    return any(item.get("const") == tag for item in node.get("properties", {}).values())


def _child(value: Any, step: int | str) -> object:
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None


def variants(node: Node, document: Document) -> list[Node]:
    """The alternatives of a schema, references resolved."""
    if "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return variants(target, document)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in node:
            return [variant for item in node[word] for variant in variants(item, document)]
    return [node]


def shorten(value: object) -> str:
    """A value as JSON, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace").decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def describe(nodes: Sequence[Node], document: Document) -> tuple[str, tuple[Any, ...]]:
    """What schemas allow, in words, and the values where they are a closed list."""
    values = tuple(value for node in nodes for value in _values(node))
    shown = [json.dumps(value, ensure_ascii=False) for value in values[:SHOWN_VALUES]]
    shown += ["…"] if len(values) > SHOWN_VALUES else []
    words = list(dict.fromkeys(_words(node, document) for node in nodes if not list(_values(node))))
    parts = shown + [word for word in words if word != "null"]
    text = ", ".join(parts[:-1]) + (" or " if len(parts) > 1 else "") + "".join(parts[-1:])
    return text or "null", values if len(shown) == len(parts) else ()


def _values(node: Node) -> Iterator[Any]:
    if "const" in node:
        yield node["const"]
    yield from node.get("enum", ())


def _words(node: Node, document: Document) -> str:
    match node.get("type"):
        case "integer":
            return f"an integer{_bounds(node)}"
        case "number":
            return f"a number{_bounds(node)}"
        case "string":
            return _string(node)
        case "boolean":
            return "true or false"
        case "array":
            return _list(node)
        case "object":
            inner = node.get("additionalProperties")
            of = f" of {_plural(describe(variants(inner, document), document)[0])}" if inner else ""
            most = f" of at most {node['maxProperties']} entries" if "maxProperties" in node else ""
            return f"an object{most or of}"
        case other:
            return str(other or "a value of the documented form")


def _list(node: Node) -> str:
    least, most = node.get("minItems", 0), node.get("maxItems")
    if most == 0:
        return "an empty list"
    return f"a list of {least:,} to {most:,} entries" if most else "a list"


def _plural(text: str) -> str:
    """`a number above 0` as `numbers above 0`."""
    for article in ("a ", "an "):
        if text.startswith(article):
            noun, _, rest = text.removeprefix(article).partition(" ")
            return f"{noun}s {rest}".rstrip()
    return text


def _string(node: Node) -> str:
    least, most = node.get("minLength", 0), node.get("maxLength")
    length = (
        f" of {least} to {most:,} characters" if least and most else f" of at most {most:,} characters" if most else ""
    )
    if "pattern" in node and node.get("examples"):
        return f"a string like {json.dumps(node['examples'][0])}"
    return f"a string{length}" + (f" that matches {node['pattern']}" if "pattern" in node else "")


def _bounds(node: Node) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f" from {_number(least)} to {_number(most)}"
    low = (
        f" of at least {_number(least)}"
        if least is not None
        else f" above {_number(above)}"
        if above is not None
        else ""
    )
    high = f" at most {_number(most)}" if most is not None else f" below {_number(below)}" if below is not None else ""
    return low + (" and" if low and high else "") + high


def _number(bound: float) -> str:
    """OpenAPI documents hold every bound as a float."""
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"
