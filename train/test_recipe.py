"""Checks of the recipe: `pytest train/`. Those against transformers are skipped where it is not installed."""

import json
import pathlib
import random

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import chat
import data
import evaluate
import model as nano
import optimizer
import quiz
import talk
import tasks
import tokenizer as recipe
import tool_tasks
import toolbox

NANO = pathlib.Path(__file__).parent.parent / "fixtures" / "nano"


@pytest.fixture(scope="module")
def shipped():
    return Tokenizer.from_file(str(NANO / "tokenizer.json"))


def test_the_generators_are_functions_of_their_seed():
    once, again = list(tasks.stream(3, 200)), list(tasks.stream(3, 200))
    assert once == again
    assert once != list(tasks.stream(4, 200))


def test_held_out_tools_are_not_in_the_training_bank():
    trained = {name for row in toolbox.BANK for name in row[0]}
    assert not trained & {name for row in toolbox.HELD_BANK for name in row[0]}


def test_every_generated_call_satisfies_its_schema():
    for messages, tools in tasks.stream(6, 1500):
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools or []}
        for call in (call for message in messages for call in message.get("tool_calls") or []):
            function = call["function"]
            schema = schemas[function["name"]]
            assert set(schema["required"]) <= set(function["arguments"]) <= set(schema["properties"])
            for key, value in function["arguments"].items():
                assert isinstance(value, int) == (schema["properties"][key]["type"] == "integer")
                assert value in schema["properties"][key].get("enum", [value])


def test_no_slot_is_left_open():
    for messages, _ in tasks.stream(8, 3000):
        for message in messages:
            text = message.get("content") or ""
            if message["role"] in ("user", "assistant") and "schema" not in text:
                assert not any("{" + key + "}" in text for key in (*toolbox.SLOTS, "x", "c", "e", "t", "k", "w", "query", "text", "state")), text


def test_extracted_values_stand_in_the_text():
    rng = random.Random(1)
    for _ in range(500):
        question, answer = quiz.extraction(rng)
        for value in json.loads(answer).values():
            assert str(value) in question


def test_sums_are_right():
    assert tool_tasks.calculated("2 + 3 * 4 - 10 / 4") == 11.5
    assert tool_tasks.calculated("100 - 3 - 7") == 90
    rng = random.Random(2)
    for _ in range(300):
        left, right = quiz.small_sum(rng)[1].rstrip(".").split(" = ")
        assert eval(left.replace("x", "*")) == int(right)


def test_a_wording_chooses_one_branch():
    seen = {talk.wording("(a|b) c|d", random.Random(seed)) for seed in range(50)}
    assert seen == {"a c", "b c", "d"}


def test_prompt_and_answer_join_to_what_the_template_renders():
    for messages, tools in tasks.stream(9, 300):
        if messages[-1].get("reasoning_content"):
            continue
        prompt, answer = chat.example(messages, tools, enable_thinking=False)
        assert prompt + answer + "\n" == chat.render(messages, tools)


def test_only_answers_count_in_full(shipped):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"},
                {"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A model."}]
    ids, weights = data.encode_chat(shipped, messages, None, thinking_off=True)
    kept = [token for token, weight in zip(ids, weights) if weight == data.FULL]
    assert shipped.decode(kept, skip_special_tokens=False) == "Hello!<|im_end|>A model.<|im_end|>"


def test_the_tokenizer_gives_back_every_text(shipped):
    texts = ["Hello, world!", "naïve café \u4f60\u597d \U0001f600", "a\n\n  b\t c", '{"a": [1, 2.5, null]}', "0123456789", ""]
    for messages, tools in tasks.stream(10, 100):
        texts.append(chat.render(messages, tools))
    for text in texts:
        assert shipped.decode(shipped.encode(text).ids, skip_special_tokens=False) == text


def test_the_added_tokens_are_qwens_in_order(shipped):
    first = nano.Config().vocab_size - len(recipe.SPECIAL) - len(recipe.NOT_SPECIAL)
    assert [shipped.token_to_id(text) for text in recipe.SPECIAL + recipe.NOT_SPECIAL] == list(range(first, nano.Config().vocab_size))
    assert shipped.encode("42").tokens == ["4", "2"]


def test_the_shipped_template_is_the_recipes():
    assert json.loads((NANO / "tokenizer_config.json").read_text())["chat_template"] == chat.TEMPLATE


def test_the_loss_in_pieces_equals_the_plain_one():
    torch.manual_seed(0)
    config = nano.Config(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8)
    model = nano.SampanNano(config)
    ids, targets, weights = torch.randint(0, 50, (3, 9)), torch.randint(0, 50, (3, 9)), torch.rand(3, 9).round()
    parameters = list(model.parameters())
    loss = nano.weighted_loss(model, ids, targets, weights)
    plain = (torch.nn.functional.cross_entropy(model.logits(ids).flatten(0, 1), targets.flatten(), reduction="none") * weights.flatten()).sum()
    torch.testing.assert_close(loss, plain)
    for one, other in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(plain, parameters)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_orthogonal_brings_singular_values_near_one():
    values = torch.linalg.svdvals(optimizer.orthogonal(torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0))))
    assert 0.4 < values.min() and values.max() < 1.6


def test_cached_decoding_equals_the_full_pass():
    folder = evaluate.Folder(NANO)
    ids = torch.arange(40)[None] + 300
    cache = nano.Cache()
    with torch.no_grad():
        full = folder.model.logits(ids)
        parts = torch.cat([folder.model.logits(ids[:, :30], cache)] + [folder.model.logits(ids[:, i:i + 1], cache) for i in range(30, 40)], dim=1)
    torch.testing.assert_close(full, parts, rtol=1e-4, atol=1e-4)


def test_transformers_sees_the_same_model_and_prompts(shipped):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    ours = evaluate.Folder(NANO)
    with torch.no_grad():
        for messages, tools in tasks.stream(12, 12):
            prompt, _ = chat.example(messages, tools)
            ids = torch.tensor([shipped.encode(prompt).ids])
            left, right = ours.model.logits(ids), theirs(ids).logits
            assert (left - right).abs().max() < 1e-3 and torch.equal(left.argmax(-1), right.argmax(-1))
    tokenizer = transformers.AutoTokenizer.from_pretrained(NANO)
    for messages, tools in tasks.stream(13, 100):
        for thinking in (None, False):
            more = {} if thinking is None else {"enable_thinking": thinking}
            prompt, _ = chat.example(messages, tools, enable_thinking=thinking)
            assert tokenizer.apply_chat_template(messages[:-1], tools=tools, tokenize=False, add_generation_prompt=True, **more) == prompt
            assert tokenizer(prompt)["input_ids"] == shipped.encode(prompt).ids


def test_the_shipped_folder_is_small():
    assert sum(file.stat().st_size for file in NANO.iterdir()) < 24_000_000
    assert 3_000_000 < sum(tensor.numel() for tensor in load_file(NANO / "model.safetensors").values()) < 8_000_000
