"""Conversations as text, exactly as the shipped chat template renders them."""

import json
import pathlib

import jinja2
import jinja2.sandbox

TEMPLATE = (pathlib.Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")


def to_json(value):
    """JSON as the templates write it: Python's separators, nothing escaped, order of insertion kept."""
    return json.dumps(value, ensure_ascii=False)


def _environment():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = to_json
    return environment


_COMPILED = _environment().from_string(TEMPLATE)


def render(messages, tools=None, add_generation_prompt=False, enable_thinking=None):
    """What `apply_chat_template` of transformers gives. `enable_thinking=None` leaves the variable undefined."""
    more = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
    return _COMPILED.render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt, **more)


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def answer_text(message):
    """What the model has to write for an assistant turn, after the generation prompt."""
    text = message.get("content") or ""
    for index, one in enumerate(message.get("tool_calls") or []):
        function = one["function"]
        body = to_json({"name": function["name"], "arguments": function["arguments"]})
        text += ("\n" if text or index else "") + f"<tool_call>\n{body}\n</tool_call>"
    return text


def example(messages, tools=None, enable_thinking=None):
    """Prompt and answer of a conversation that ends in an assistant turn.

    With thinking left on, an answer may begin with its own `<think>` block (`reasoning_content`).
    """
    *history, last = messages
    assert last["role"] == "assistant"
    prompt = render(history, tools, add_generation_prompt=True, enable_thinking=enable_thinking)
    answer = answer_text(last)
    if last.get("reasoning_content") and enable_thinking is None:
        answer = f"<think>\n{last['reasoning_content']}\n</think>\n\n{answer}"
    return prompt, answer + "<|im_end|>"
