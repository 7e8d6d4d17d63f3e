"""Requests of at most 1 MB that are made to cost as much as possible, on every route."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_BYTES = 1_000_000
_BLANK = re.compile(rb'"<(schema|text|start)>"')
ASK = [{"role": "user", "content": "What is 17 * 3?"}]


class Hostile(NamedTuple):
    """One request: all of them share the large parts of their bodies, 415 MB if each had its own."""

    name: str
    path: str
    parts: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        """What is sent."""
        return b"".join(self.parts)


def repeat(unit: str, size: int = 900_000) -> str:
    """So many bytes of the same."""
    return unit * (size // len(unit))


def nested(depth: int, opening: str, closing: str, core: str = "1") -> str:
    """Brackets in brackets."""
    return opening * depth + core + closing * depth


def schemas() -> Iterator[tuple[str, Any]]:
    """JSON Schemas that are large, slow to compile or slow to validate against."""
    yield "list of types", {"type": [{"a": 0} for _ in range(3000)]}
    yield "more types", {"type": [{"a": i} for i in range(900)]}
    yield "anyOf", {"anyOf": [{"type": "string", "maxLength": i} for i in range(5000)]}
    yield "many anyOf", {"anyOf": [{"type": "object", "properties": {"a": {"const": i}}} for i in range(900)]}
    recursive = {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}, {"type": "null"}]}
    yield "recursive anyOf", {"$defs": {"n": recursive}, "$ref": "#/$defs/n"}
    twice = {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": i} for i in range(2)]}
    yield "branching recursion", {"$defs": {"n": twice}, "$ref": "#/$defs/n"}
    names = range(24)
    bombs = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in names}
    yield "exponential references", {"$defs": {**bombs, "d24": {"type": "array"}}, "$ref": "#/$defs/d0"}
    yield "long pattern", {"pattern": "(a|b)" * 40_000}
    yield "heavy pattern", {"type": "string", "pattern": "(a+)+$"}
    yield "nested repeats", {"pattern": "((((a{1,500}){1,500}){1,500}){1,500}){1,500}"}
    yield "many patterns", {"patternProperties": {f"(a|b|c){i}": {} for i in range(900)}}
    yield "pattern of sets", {"pattern": r"[\p{L}\p{N}--\p{Lu}]" * 90}
    yield "properties", {"properties": {f"p{i}": {"type": "string"} for i in range(20_000)}}
    yield "allowed properties", {"properties": {f"p{i}": {"type": "string", "title": "x"} for i in range(2500)}}
    yield "enum", {"enum": [{"a": [i]} for i in range(40_000)]}
    yield "small enum", {"enum": [{"a": [i]} for i in range(900)]}
    yield "one long name", {"properties": {"n" * 900_000: {}}}
    yield "unevaluated", json.loads(nested(20, '{"unevaluatedProperties":false,"allOf":[', "]}", "{}"))
    yield "deep", json.loads(nested(60, '{"not":', "}", "{}"))
    yield "required", {"required": [f"r{i}" for i in range(60_000)]}
    yield "dialect", {"$schema": "http://json-schema.org/draft-04/schema#", "type": [{"a": i} for i in range(900)]}


def answers() -> Iterator[tuple[str, str]]:
    """Answers that are slow to parse or to validate."""
    yield "nested lists", nested(900, "[", "]")
    yield "wide lists", "[" + "[1]," * 150_000 + "1]"
    yield "a string for patterns", json.dumps("a" * 900_000)
    yield "broken objects", repeat('{"a":')
    yield "broken lists", repeat("[[1,")
    yield "fences", repeat("```json\n{")
    yield "boxes", repeat("\\boxed{", 115_000)
    yield "closed boxes", "\\boxed{" * 12_000 + "}" * 12_000
    yield "large number", "1" * 900_000
    yield "exponents", "1e999999," * 80_000
    yield "answers", repeat("Answer: 1,")
    yield "quotes", repeat('"')
    yield "combining marks", repeat("\u0301", 400_000)
    yield "marks in another order", repeat("\u0301\u0316", 230_000)
    yield "large ligatures", repeat("\ufdfa", 300_000)
    yield "fractions", repeat("\u00bd", 440_000)
    yield "thoughts", repeat("<think></think>")
    yield "beginnings of thoughts", repeat("<think>")
    yield "ends of thoughts", repeat("\u0130 </think> a", 400_000)
    yield "many fields", "{" + ",".join(f'"{i:x}":"x"' for i in range(9_000)) + "}"
    yield "fences in lists", repeat('```json\n{"a":[1', 400_000)


def bodies() -> Iterator[tuple[str, str]]:
    """JSON texts that are not schemas: what a parser or a reader has to work on."""
    good = json.dumps({"model": "default", "max_tokens": 5, "prompt": "x", "messages": ASK})[1:-1]
    yield "numbers", "{" + good + ',"metadata":[' + "0," * 450_000 + "0]}"
    yield "lists", "{" + good + ',"metadata":[' + "[]," * 300_000 + "0]}"
    yield "objects", "{" + good + ',"metadata":[' + "{}," * 300_000 + "0]}"
    yield "deep", "{" + good + ',"metadata":' + nested(450_000, "[", "]") + "}"
    yield "long name", "{" + good + ',"' + "n" * 900_000 + '":1}'
    yield "long names", "{" + good + "," + ",".join(f'"{"temperature" * 1000}{i}":1' for i in range(80)) + "}"
    yield "many names", "{" + ",".join(f'"n{i}":1' for i in range(80_000)) + "," + good + "}"
    yield "the same name", "{" + good + "," + ",".join('"a":1' for _ in range(150_000)) + "}"
    yield "large integer", "{" + good + ',"seed":' + "9" * 900_000 + "}"
    yield "large float", "{" + good + ',"temperature":0.' + "9" * 900_000 + "}"
    yield "metadata", "{" + good + ',"metadata":{' + ",".join(f'"m{i}":"x"' for i in range(60_000)) + "}}"
    yield "tags", "{" + good + ',"tags":{' + ",".join(f'"m{i}":"x"' for i in range(60_000)) + "}}"
    yield "logit bias", "{" + good + ',"logit_bias":{' + ",".join(f'"{i}":1' for i in range(80_000)) + "}}"
    yield "stop", "{" + good + ',"stop":["' + "x" * 900_000 + '"]}'
    yield "escapes", "{" + good + ',"user":"' + "\\ud83d\\ude00" * 75_000 + '"}'
    yield "surrogates", "{" + good + ',"user":"' + "\\ud83d" * 150_000 + '"}'
    yield "no JSON", "[" * 900_000
    rest = '"model":"default","max_tokens":5,'
    yield "messages", "{" + rest + '"messages":[' + ",".join(['{"role":"user","content":""}'] * 33_000) + "]}"
    yield "allowed messages", "{" + rest + '"messages":[' + ",".join(['{"role":"user","content":"x"}'] * 4_900) + "]}"
    parts = ",".join(['{"type":"text","text":""}'] * 33_000)
    yield "parts", "{" + rest + '"messages":[{"role":"user","content":[' + parts + "]}]}"
    parts = ",".join(['{"type":"text","text":"x"}'] * 4_900)
    yield "allowed parts", "{" + rest + '"messages":[' + ",".join(['{"role":"user","content":[' + parts + "]}"] * 6) + "]}"
    calls = ",".join(['{"id":"a","function":{"name":"f","arguments":"{}"}}'] * 16_000)
    yield "tool calls", "{" + rest + '"messages":[{"role":"assistant","tool_calls":[' + calls + "]}]}"
    tools = ",".join(['{"type":"function","function":{"name":"f"}}'] * 20_000)
    yield "tools", "{" + good + ',"tools":[' + tools + "]}"
    tools = ",".join(['{"type":"function","function":{"name":"f","parameters":{"a":[1,2]}}}'] * 900)
    yield "allowed tools", "{" + good + ',"tools":[' + tools + "]}"
    yield "prompt", '{"prompt":' + json.dumps(repeat("\\boxed{")) + ',"policy":"default"}'
    yield "long prompt", json.dumps({"model": "default", "messages": [{"role": "user", "content": "é1 " * 200_000}]})
    yield "policy name", "{" + '"model":"' + "d" * 900_000 + '","messages":[{"role":"user","content":"x"}]}'
    yield "near policy name", "{" + '"model":"' + "defaul" * 40 + '","messages":[{"role":"user","content":"x"}]}'


def requests() -> list[Hostile]:
    """Every request of the family that has at most 1 MB."""
    family = []
    texts = {shape: dump(text) for shape, text in answers()}
    ask = {"model": "default", "messages": ASK}
    for name, definition in schemas():
        schema = dump(definition)
        format = {"type": "json_schema", "json_schema": {"name": "x", "schema": "<schema>"}}
        chat = {**ask, "response_format": format}
        family.append(Hostile(f"schema: {name}", "/v1/chat/completions", fill(chat, schema=schema)))
        config = {"format": {"type": "json_schema", "schema": "<schema>"}}
        message = {**ask, "max_tokens": 5, "output_config": config}
        family.append(Hostile(f"schema: {name}", "/v1/messages", fill(message, schema=schema)))
        tool = {"type": "function", "function": {"name": "f", "parameters": "<schema>"}}
        family.append(Hostile(f"tool: {name}", "/v1/chat/completions", fill({**ask, "tools": [tool]}, schema=schema)))
        response = {"model": "default", "input": "x", "text": {"format": {"name": "x", **config["format"]}}}
        family.append(Hostile(f"schema: {name}", "/v1/responses", fill(response, schema=schema)))
        for shape, text in texts.items():
            gate = {"prompt": "x", "answer": "<text>", "schema": "<schema>"}
            family.append(Hostile(f"schema: {name}, answer: {shape}", "/v1/gate", fill(gate, schema=schema, text=text)))
    for shape, text in texts.items():
        for tier in ("cheap", "premium"):
            gate = {"prompt": "x", "answer": "<text>", "tier": tier}
            family.append(Hostile(f"answer for {tier}: {shape}", "/v1/gate", fill(gate, text=text)))
        prompt = [{"role": "user", "content": "<text>"}]
        family.append(Hostile(f"prompt: {shape}", "/v1/route", fill({"prompt": "<text>"}, text=text)))
        response = {"model": "default", "input": "<text>"}
        family.append(Hostile(f"prompt: {shape}", "/v1/responses", fill(response, text=text)))
        count = {"model": "default", "messages": prompt}
        family.append(Hostile(f"prompt: {shape}", "/v1/messages/count_tokens", fill(count, text=text)))
        budget = {"model": "default", "max_tokens": 5, "messages": prompt, "cascade": {"budget_usd": 1000}}
        family.append(Hostile(f"prompt under a budget: {shape}", "/v1/chat/completions", fill(budget, text=text)))
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "<text>"}}
        result = {"role": "tool", "tool_call_id": "c", "content": "<start>"}
        history = [*ASK, {"role": "assistant", "tool_calls": [call]}, result]
        parts = fill({**budget, "messages": history}, text=text, start=dump(json.loads(text)[:9]))
        family.append(Hostile(f"arguments: {shape}", "/v1/chat/completions", parts))
        item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "<text>"}
        family.append(
            Hostile(f"arguments: {shape}", "/v1/responses", fill({"model": "default", "input": [item]}, text=text))
        )
    for name, body in bodies():
        raw = body.encode()
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/route", "/v1/gate", "/v1/feedback"):
            family.append(Hostile(f"body: {name}", path, (raw,)))
    return [request for request in family if sum(map(len, request.parts)) <= MAX_BYTES]


def fill(template: Any, **values: bytes) -> tuple[bytes, ...]:
    """The parts of a body: JSON in which each string "<name>" stands for the JSON of that name."""
    return tuple(values.get(piece.decode(), piece) for piece in _BLANK.split(dump(template)))


def dump(value: Any) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
