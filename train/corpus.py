"""Reads the public text: prose, tool-calling dialogues (SGD) and Python's standard library."""

import io
import json
import pathlib
import random
import re

import zstandard

import chat

WINDOW_LOG_MAX = 27
DATE_DROPPED = re.compile(r" \([^)]*\)$")


def records(folder, name):
    with open(pathlib.Path(folder) / f"{name}.jsonl.zst", "rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG_MAX).stream_reader(file)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            yield json.loads(line)


def prose(folder, name):
    yield from records(folder, name)


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def camel(name):
    first, *rest = snake(name).split("_")
    return first + "".join(word.capitalize() for word in rest)


SPELLINGS = [snake, snake, snake, camel, lambda name: snake(name).replace("_", "-")]
SYNONYMS = {"find": ["search", "look_up", "list", "find"], "get": ["fetch", "get", "read", "show"],
            "buy": ["purchase", "buy", "order"], "reserve": ["book", "reserve"], "play": ["play", "start"],
            "check": ["check", "get"], "search": ["find", "search"], "book": ["book", "reserve"],
            "schedule": ["schedule", "plan"], "transfer": ["transfer", "send"]}


class ToolNames:
    """One dialogue's own spelling of its tools, so that names must be read from the prompt and not remembered."""

    def __init__(self, rng):
        self.rng = rng
        self.spell = rng.choice(SPELLINGS)
        self.prefix = rng.choice(["", "", "", "", "api_", "app_"])
        self.known = {}

    def of(self, full):
        if full not in self.known:
            words = snake(full.split(".")[-1]).split("_")
            if words[0] in SYNONYMS and self.rng.random() < 0.5:
                words[0] = self.rng.choice(SYNONYMS[words[0]])
            self.known[full] = self.spell(self.prefix + "_".join(words))
        return self.known[full]


def tool_schema(full, schemas, names, rng, keep):
    """The tool in OpenAI's form. Optional parameters that nobody uses may be left out, to keep prompts short."""
    source = schemas[full]
    properties = {}
    for key, value in source["parameters"]["properties"].items():
        if key in source["parameters"]["required"] or key in keep or rng.random() < 0.1:
            properties[key] = {k: v for k, v in value.items() if k in ("type", "description", "enum")}
            if rng.random() < 0.5:
                properties[key].pop("description", None)
    parameters = {"type": "object", "properties": properties, "required": source["parameters"]["required"]}
    description = DATE_DROPPED.sub("", source["description"])
    return {"type": "function",
            "function": {"name": names.of(full), "description": description, "parameters": parameters}}


def short_result(content, rng):
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict) and len(first) > 5:
        keys = sorted(rng.sample(sorted(first), 5))
        return {key: first[key] for key in keys}
    return first


def used_keys(messages, full):
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    return {key for call in calls if call["name"] == full for key in call["arguments"]}


def sgd_conversation(record, schemas, rng):
    """A dialogue cut behind one of its assistant turns, with the tools that it uses and at times one more.

    Most cuts fall where a tool is called or answered, for that is what the model has to learn.
    """
    messages = record["messages"]
    calling = [i for i, message in enumerate(messages) if message.get("tool_calls")]
    if calling and rng.random() < 0.8:
        end = rng.choice(calling[:2]) + rng.choice([0, 0, 2])
    else:
        end = rng.choice([i for i, message in enumerate(messages) if message["role"] == "assistant"])
    end = min(end, len(messages) - 1)
    while messages[end]["role"] != "assistant":
        end -= 1
    start = 0
    users = [i for i, message in enumerate(messages[:end]) if message["role"] == "user"]
    if len(users) > 5 and rng.random() < 0.3:
        start = rng.choice(users[: len(users) - 2])
    names = ToolNames(rng)
    offered = {call["name"] for message in messages[start:end + 1] for call in message.get("tool_calls") or []}
    services = tuple(service + "." for service in record["services"])
    others = sorted(name for name in schemas if not name.startswith(services))
    own = sorted(name for name in schemas if name.startswith(services))
    offered.add(rng.choice(own if rng.random() < 0.5 else others))
    tools = [tool_schema(full, schemas, names, rng, used_keys(messages, full)) for full in sorted(offered)]
    rng.shuffle(tools)
    kept = []
    for message in messages[start:end + 1]:
        if message.get("tool_calls"):
            calls = [chat.call(names.of(call["name"]), call["arguments"]) for call in message["tool_calls"]]
            kept.append({"role": "assistant", "content": message.get("content") or "", "tool_calls": calls})
        elif message["role"] == "tool":
            kept.append({"role": "tool", "content": chat.to_json(short_result(message["content"], rng))})
        else:
            kept.append({"role": message["role"], "content": message["content"]})
    return kept, tools or None


def sgd(folder, name, split, seed, passes=1):
    schemas = json.loads((pathlib.Path(folder) / "sgd_tools.json").read_text())[split]
    rng = random.Random(seed)
    for _ in range(passes):
        for record in records(folder, name):
            yield sgd_conversation(record, schemas, rng)


def paragraphs(text, chars_max):
    """Pieces of whole paragraphs, each about `chars_max` long."""
    held, size = [], 0
    for paragraph in text.split("\n\n"):
        held.append(paragraph)
        size += len(paragraph) + 2
        if size >= chars_max:
            yield "\n\n".join(held)
            held, size = [], 0
    if held:
        yield "\n\n".join(held)
