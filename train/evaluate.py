"""Measures an exported folder: held-out perplexity, tool calls, questions in wordings it has not seen; prints samples.

    python evaluate.py --model ../fixtures/nano --data DATA [--calls 150] [--json result.json]
"""

import argparse
import json
import math
import pathlib
import random
import re

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import chat
import corpus
import data
import model as nano
import tasks

ANSWER_TOKENS_MAX = 160
CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.S)
TEXT_CHUNKS = 119


class Folder:
    def __init__(self, path):
        path = pathlib.Path(path)
        published = json.loads((path / "config.json").read_text())
        fields = {name: published[name] for name in nano.Config.__dataclass_fields__}
        self.model = nano.SampanNano(nano.Config(**fields)).eval()
        weights = {name: tensor.float() for name, tensor in load_file(path / "model.safetensors").items()}
        self.model.load_state_dict(weights)
        self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self.stops = {self.tokenizer.token_to_id(text) for text in ("<|im_end|>", "<|endoftext|>")}

    @torch.no_grad()
    def answer(self, messages, tools=None, enable_thinking=None, temperature=0.0, seed=0):
        """The text up to the end of the turn. Temperature 0 is greedy; otherwise top-k 20, top-p 0.8."""
        prompt = chat.render(messages, tools, add_generation_prompt=True, enable_thinking=enable_thinking)
        ids, cache, chance = self.tokenizer.encode(prompt).ids, nano.Cache(), torch.Generator().manual_seed(seed)
        produced, fed = [], ids
        while len(produced) < ANSWER_TOKENS_MAX and len(ids) + len(produced) < self.model.config.max_position_embeddings:
            logits = self.model.logits(torch.tensor([fed]), cache)[0, -1]
            token = int(logits.argmax()) if temperature == 0 else sample(logits, temperature, chance)
            if token in self.stops:
                return self.tokenizer.decode(produced, skip_special_tokens=False)
            produced.append(token)
            fed = [token]
        return self.tokenizer.decode(produced, skip_special_tokens=False) + " [not ended]"


def sample(logits, temperature, chance, top_k=20, top_p=0.8):
    values, indices = torch.topk(logits / temperature, top_k)
    probabilities = torch.softmax(values, dim=-1)
    kept = probabilities.cumsum(0) - probabilities < top_p
    return int(indices[torch.multinomial(probabilities * kept, 1, generator=chance)])


@torch.no_grad()
def text_perplexity(folder, texts):
    """Perplexity a token and a byte over windows of `data.PROSE_WINDOW` tokens."""
    loss = tokens = size = 0
    for text in texts:
        for piece in corpus.paragraphs(text, data.PROSE_CHARS):
            ids = folder.tokenizer.encode(piece).ids[: data.PROSE_WINDOW]
            if len(ids) < 32:
                continue
            logits = folder.model.logits(torch.tensor([ids[:-1]]))[0]
            loss += torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()
            tokens += len(ids) - 1
            size += len(folder.tokenizer.decode(ids[1:]).encode())
    return {"tokens": tokens, "bytes": size, "perplexity_token": round(math.exp(loss / tokens), 3),
            "perplexity_byte": round(math.exp(loss / size), 4), "bits_byte": round(loss / size / math.log(2), 4)}


@torch.no_grad()
def answer_perplexity(folder, conversations):
    """Perplexity of the assistant's turns alone, given the true prompt."""
    loss = tokens = size = 0.0
    for messages, tools in conversations:
        ids, weights = data.encode_chat(folder.tokenizer, messages, tools, thinking_off=True)
        if len(ids) > data.TOKENS_MAX:
            continue
        kept = torch.tensor(weights[1:]) == data.FULL
        logits = folder.model.logits(torch.tensor([ids[:-1]]))[0][kept]
        targets = torch.tensor(ids[1:])[kept]
        loss += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        tokens += len(targets)
        size += len(folder.tokenizer.decode(targets.tolist(), skip_special_tokens=False).encode())
    return {"tokens": int(tokens), "bytes": int(size), "perplexity_token": round(math.exp(loss / tokens), 3),
            "perplexity_byte": round(math.exp(loss / size), 4)}


def calls_in(text):
    found = []
    for body in CALL.findall(text):
        try:
            found.append(json.loads(body))
        except json.JSONDecodeError:
            found.append(None)
    return found


def tool_accuracy(folder, conversations, count, enable_thinking):
    """Greedy: of the turns that must call, how many name the right tools, and how many are right to the letter."""
    tally = {"must_call": 0, "name_right": 0, "all_right": 0, "unreadable": 0, "must_not_call": 0, "did_not_call": 0, "text_right": 0}
    for messages, tools in conversations:
        last = messages[-1]
        prompt, _ = chat.example(messages, tools)
        if not tools or len(folder.tokenizer.encode(prompt).ids) > data.TOKENS_MAX:
            continue
        kind = "must_call" if last.get("tool_calls") else "must_not_call"
        if tally[kind] >= count:
            continue
        tally[kind] += 1
        answer = folder.answer(messages[:-1], tools, enable_thinking)
        made = calls_in(answer)
        tally["unreadable"] += None in made
        if kind == "must_not_call":
            tally["did_not_call"] += not made
            tally["text_right"] += answer.strip() == last["content"].strip()
            continue
        wanted = [one["function"] for one in last["tool_calls"]]
        tally["name_right"] += [one and one.get("name") for one in made] == [one["name"] for one in wanted]
        tally["all_right"] += [one and (one.get("name"), one.get("arguments")) for one in made] == [(one["name"], one["arguments"]) for one in wanted]
        if min(tally["must_call"], tally["must_not_call"]) >= count:
            break
    return tally


PROBES = [  # (what the user says, what the answer must hold); none of these strings was chosen by the generators
    ("Hello", "help"), ("Hi there!", "help"), ("hey", "help"), ("Who are you?", "sampan-nano"), ("who r you", "sampan-nano"), ("What's your name?", "sampan-nano"),
    ("Tell me your name please", "sampan-nano"), ("What is Sampan?", "operating system"), ("what's sampan about?", "operating system"),
    ("Can you explain what Sampan is?", "operating system"), ("How do I start the server?", "sampan up"), ("how can I start up the sampan server", "sampan up"),
    ("Which command do I need to start it?", "sampan up"), ("What port does it use?", "8420"), ("Which port is the server listening on?", "8420"),
    ("How do I list my models?", "sampan model ls"), ("How can I benchmark my model?", "sampan bench"), ("Which file formats can I use?", "GGUF"),
    ("How do I talk to the model in my terminal?", "sampan chat"), ("What is 17 + 25?", "42"), ("what's 8 times 7", "56"), ("12 + 9", "21"), ("What is 50 - 8?", "42"),
    ("What is the capital of France?", "Paris"), ("whats the capital of japan?", "Tokyo"), ("Which city is Germany's capital?", "Berlin"),
    ("What colour is grass?", "green"), ("What is the opposite of hot?", "cold"), ("What day comes after Monday?", "Tuesday"), ("How are you?", "thank"),
    ("Thank you so much!", "welcome"), ("bye!", "Goodbye"), ("Are you ChatGPT?", "sampan-nano"), ("What can you do?", "call tools"),
    ("What is the weather in Paris?", "not know|tool|cannot"), ("Who is the president of Mars?", "not know|do not"), ("Tell me a joke", "?"),
    ("Repeat after me: blue river", "lue river"), ("How many legs does a spider have?", "eight"), ("Count to 5", "1, 2, 3, 4, 5"),
]
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Get current temperature for a given location.", "parameters": {
    "type": "object", "properties": {"location": {"type": "string", "description": "City and country e.g. Bogotá, Colombia"}}, "required": ["location"], "additionalProperties": False}, "strict": True}}
WEATHER_UNIT = {"type": "function", "function": {"name": "get_current_weather", "description": "Get the current weather in a given location", "parameters": {
    "type": "object", "properties": {"location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}, "required": ["location"]}}}
CALCULATOR = {"type": "function", "function": {"name": "calculator", "description": "Evaluate an arithmetic expression", "parameters": {
    "type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}}}
UNSEEN = {"type": "function", "function": {"name": "lookup_customer", "description": "Find a customer by number", "parameters": {
    "type": "object", "properties": {"customer_number": {"type": "string", "description": "The number"}}, "required": ["customer_number"]}}}
TOOL_PROBES = [
    ("What is the weather in Paris?", [WEATHER], {"name": "get_weather", "arguments": {"location": "Paris"}}),
    ("What's the weather like in Tokyo today?", [WEATHER_UNIT], {"name": "get_current_weather", "arguments": {"location": "Tokyo"}}),
    ("How warm is it in Berlin right now?", [CALCULATOR, WEATHER], {"name": "get_weather", "arguments": {"location": "Berlin"}}),
    ("What is 17 + 25?", [CALCULATOR], {"name": "calculator", "arguments": {"expression": "17 + 25"}}),
    ("Please calculate 1234 * 56", [WEATHER, CALCULATOR], {"name": "calculator", "arguments": {"expression": "1234 * 56"}}),
    ("Find customer 4711", [UNSEEN], {"name": "lookup_customer", "arguments": {"customer_number": "4711"}}),
    ("Look up the customer with number 992", [UNSEEN, WEATHER], {"name": "lookup_customer", "arguments": {"customer_number": "992"}}),
    ("Hello", [WEATHER], None), ("Who are you?", [WEATHER, CALCULATOR], None), ("Play some jazz", [WEATHER], None),
]


def probe(folder, temperature, seeds):
    right, asked, wrong = 0, 0, []
    for seed in range(seeds):
        for mode in (None, False):
            for text, wanted in PROBES:
                answer = folder.answer([{"role": "user", "content": text}], None, mode, temperature, seed)
                good = any(part in answer for part in wanted.split("|")) and "[not ended]" not in answer
                right, asked = right + good, asked + 1
                if not good:
                    wrong.append(f"{text} -> {answer}")
            for text, tools, wanted in TOOL_PROBES:
                answer = folder.answer([{"role": "user", "content": text}], tools, mode, temperature, seed)
                good = calls_in(answer) == ([wanted] if wanted else [])
                right, asked = right + good, asked + 1
                if not good:
                    wrong.append(f"[tools] {text} -> {answer}")
    return {"right": right, "asked": asked, "wrong": wrong}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data")
    parser.add_argument("--calls", type=int, default=150)
    parser.add_argument("--json")
    parser.add_argument("--probes-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Folder(arguments.model)
    result = {"probes_greedy": probe(folder, 0.0, 1), "probes_sampled": probe(folder, 0.7, 2)}
    for name in ("probes_greedy", "probes_sampled"):
        print(name, result[name]["right"], "of", result[name]["asked"])
        for line in result[name]["wrong"]:
            print("   ", line)
    if not arguments.probes_only:
        held = list(tasks.stream(5, tasks.HELD_COUNT, held=True))
        sgd_dev = list(corpus.sgd(arguments.data, "sgd_dev", "dev", seed=3))
        random.Random(11).shuffle(sgd_dev)
        chunks = (chunk["text"] for chunk in list(corpus.prose(arguments.data, "prose_val"))[:TEXT_CHUNKS])
        result["tasks_held_tools"] = tool_accuracy(folder, held, arguments.calls, None)
        result["sgd_dev_tools"] = tool_accuracy(folder, sgd_dev, arguments.calls, None)
        result["tasks_held_answers"] = answer_perplexity(folder, held)
        result["sgd_dev_answers"] = answer_perplexity(folder, sgd_dev[:600])
        result["prose_val"] = text_perplexity(folder, chunks)
        for name in list(result)[2:]:
            print(name, json.dumps(result[name]))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
