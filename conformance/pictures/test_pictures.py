"""Pictures in every dialect, with the vendors' own clients, against a tiny model that sees.

Its answers are the noise of random weights, but always the same noise: whichever dialect brings a picture, the same
prompt is counted and the same answer comes back. That both are right is the business of the engine's tests.
"""

import base64
import functools
import http.server
import pathlib
import threading

import anthropic
import dashscope
import ollama
import openai
import pytest

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures"
MODEL = "qwen3_vl"
QUESTION = "What is this?"
# As many tokens as the reference makes of image0.png and the question.
PROMPT_TOKENS = 26
LENGTH = 16


def file(index=0):
    return (FIXTURES / f"tiny/qwen3_vl/image{index}.png").read_bytes()


def encoded(index=0):
    return base64.b64encode(file(index)).decode()


def address(index=0):
    return f"data:image/png;base64,{encoded(index)}"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def origin():
    """A server of pictures on this machine."""
    handler = functools.partial(Quiet, directory=FIXTURES / "tiny/qwen3_vl")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as pictures:
        threading.Thread(target=pictures.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{pictures.server_port}"
        pictures.shutdown()


@pytest.fixture(scope="module")
def seeing(start_server, origin):
    model = ["--model", str(FIXTURES / "tiny/qwen3_vl"), "--precision", "exact", "--kv-format", "f32"]
    running = start_server(*model, "--picture-origin", origin)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def gpt(seeing):
    return openai.OpenAI(base_url=seeing.url + "/v1", api_key="none", max_retries=0, timeout=120)


def ask(gpt, *parts, **settings):
    content = [*parts, {"type": "text", "text": QUESTION}]
    request = {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": LENGTH}
    return gpt.chat.completions.create(**{**request, "temperature": 0, **settings})


def picture(url):
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.fixture(scope="module")
def expected(gpt):
    answer = ask(gpt, picture(address()))
    assert answer.usage.prompt_tokens == PROMPT_TOKENS and answer.usage.completion_tokens == LENGTH
    return answer.choices[0].message.content


def test_the_picture_matters(gpt, expected):
    other = ask(gpt, picture(address(2))).choices[0].message.content
    assert other != expected


def test_by_its_address_it_is_the_same(gpt, seeing, origin, expected):
    assert ask(gpt, picture(f"{origin}/image0.png")).choices[0].message.content == expected
    claude = anthropic.Anthropic(base_url=seeing.url, api_key="none", max_retries=0, timeout=120)
    source = {"type": "url", "url": f"{origin}/image0.png"}
    content = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
    request = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
    answer = claude.messages.create(**request, max_tokens=LENGTH, extra_body={"temperature": 0})
    assert "".join(block.text for block in answer.content if block.type == "text") == expected
    assert claude.messages.count_tokens(**request).input_tokens == PROMPT_TOKENS


@pytest.mark.parametrize(("path", "words"), [("golden.json", "no picture"), ("missing.png", "404")])
def test_what_an_origin_has_not_is_refused(gpt, origin, path, words):
    with pytest.raises(openai.BadRequestError, match=words):
        ask(gpt, picture(f"{origin}/{path}"))


def test_openai_streams_the_same(gpt, expected):
    chunks = ask(gpt, picture(address()), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected


def test_responses(gpt, expected):
    content = [{"type": "input_image", "image_url": address()}, {"type": "input_text", "text": QUESTION}]
    request = {"model": MODEL, "input": [{"role": "user", "content": content}], "temperature": 0}
    answer = gpt.responses.create(**request, max_output_tokens=LENGTH)
    assert answer.output_text == expected and answer.usage.input_tokens == PROMPT_TOKENS


def test_anthropic(seeing, expected):
    claude = anthropic.Anthropic(base_url=seeing.url, api_key="none", max_retries=0, timeout=120)
    source = {"type": "base64", "media_type": "image/png", "data": encoded()}
    content = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
    request = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
    answer = claude.messages.create(**request, max_tokens=LENGTH, extra_body={"temperature": 0})
    assert "".join(block.text for block in answer.content if block.type == "text") == expected
    assert claude.messages.count_tokens(**request).input_tokens == PROMPT_TOKENS


def test_ollama(seeing, expected):
    llama = ollama.Client(host=seeing.url, timeout=120)
    assert "vision" in llama.show(MODEL).capabilities
    message = {"role": "user", "content": QUESTION, "images": [file()]}
    answer = llama.chat(MODEL, [message], options={"temperature": 0, "num_predict": LENGTH})
    assert answer.message.content == expected and answer.prompt_eval_count == PROMPT_TOKENS


def test_dashscope(seeing, expected):
    dashscope.base_http_api_url = seeing.url + "/api/v1"
    messages = [{"role": "user", "content": [{"image": address()}, {"text": QUESTION}]}]
    settings = {"api_key": "none", "max_tokens": LENGTH, "temperature": 0.0}
    answer = dashscope.MultiModalConversation.call(model=MODEL, messages=messages, **settings)
    assert answer.status_code == 200, answer
    assert answer.output.choices[0].message.content[0]["text"] == expected
    assert answer.usage.input_tokens == PROMPT_TOKENS


@pytest.fixture(scope="module")
def claude(seeing):
    return anthropic.Anthropic(base_url=seeing.url, api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def uploaded(gpt):
    return gpt.files.create(file=("cat.png", file()), purpose="vision")


def test_openai_responses_see_a_file(gpt, uploaded, expected):
    content = [{"type": "input_image", "file_id": uploaded.id, "detail": "auto"}]
    content.append({"type": "input_text", "text": QUESTION})
    request = {"model": MODEL, "input": [{"role": "user", "content": content}], "temperature": 0}
    answer = gpt.responses.create(**request, max_output_tokens=LENGTH)
    assert answer.output_text == expected and answer.usage.input_tokens == PROMPT_TOKENS
    items = gpt.responses.input_items.list(answer.id).data
    assert items[0].content[0].file_id == uploaded.id and items[0].content[0].image_url is None


def test_openai_chats_see_a_file(gpt, uploaded, expected):
    answer = ask(gpt, {"type": "file", "file": {"file_id": uploaded.id}})
    assert answer.choices[0].message.content == expected and answer.usage.prompt_tokens == PROMPT_TOKENS


def test_openai_says_what_is_wrong_with_a_file(gpt, claude):
    text = gpt.files.create(file=("a.txt", b"just text"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match=f"{text.id}.*no picture"):
        ask(gpt, {"type": "file", "file": {"file_id": text.id}})
    theirs = claude.files.upload(file=("cat.png", file(), "image/png"))
    for unknown in ["file-nobody", theirs.id]:
        with pytest.raises(openai.NotFoundError, match=unknown):
            ask(gpt, {"type": "file", "file": {"file_id": unknown}})


@pytest.mark.parametrize("is_beta", [False, True])
def test_anthropic_keeps_files(claude, is_beta):
    files = claude.beta.files if is_beta else claude.files
    before = {known.id for known in files.list()}
    made = [files.upload(file=(f"{index}.png", file(), "image/png")) for index in range(3)]
    assert (made[0].type, made[0].filename, made[0].mime_type) == ("file", "0.png", "image/png")
    assert made[0].size_bytes == len(file()) and made[0].expires_at is None
    assert files.retrieve_metadata(made[0].id).id == made[0].id
    assert files.download(made[0].id).read() == file()
    # The client goes from page to page by itself.
    assert {known.id for known in files.list(limit=1)} - before == {one.id for one in made}
    named = files.list(ids=[made[0].id, made[2].id, "file_nobody"])
    assert {known.id for known in named} == {made[0].id, made[2].id}
    kept = files.upload(file=("soon.png", file(), "image/png"), expires_in_seconds=3600)
    assert (kept.expires_at - kept.created_at).total_seconds() == 3600
    for one in [*made, kept]:
        assert files.delete(one.id).type == "file_deleted"
    with pytest.raises(anthropic.NotFoundError, match=made[0].id):
        files.retrieve_metadata(made[0].id)
    with pytest.raises(anthropic.BadRequestError, match="expires_in_seconds"):
        files.upload(file=("soon.png", file(), "image/png"), expires_in_seconds=1)


@pytest.mark.parametrize("is_beta", [False, True])
def test_anthropic_sees_a_file(claude, is_beta, expected):
    client = claude.beta if is_beta else claude
    betas = {"betas": ["files-api-2025-04-14"]} if is_beta else {}
    made = client.files.upload(file=("cat.png", file(), "image/png"))
    source = {"type": "file", "file_id": made.id}
    content = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
    request = {"model": MODEL, "messages": [{"role": "user", "content": content}], **betas}
    answer = client.messages.create(**request, max_tokens=LENGTH, extra_body={"temperature": 0})
    assert "".join(block.text for block in answer.content if block.type == "text") == expected
    assert client.messages.count_tokens(**request).input_tokens == PROMPT_TOKENS


def test_anthropic_says_what_is_wrong_with_a_file(claude, uploaded):
    def look(id):
        content = [{"type": "image", "source": {"type": "file", "file_id": id}}]
        claude.messages.create(model=MODEL, max_tokens=LENGTH, messages=[{"role": "user", "content": content}])

    text = claude.files.upload(file=("a.txt", b"just text", "text/plain"))
    with pytest.raises(anthropic.BadRequestError, match=f"{text.id}.*no picture"):
        look(text.id)
    for unknown in ["file_nobody", uploaded.id]:
        with pytest.raises(anthropic.NotFoundError, match=unknown):
            look(unknown)


def test_frames_are_a_video(gpt):
    clip = {"type": "video", "video": [address()] * 4, "fps": 2}
    assert ask(gpt, clip).usage.prompt_tokens > PROMPT_TOKENS


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://10.0.0.1/cat.png", "no public address"),
        ("https://localhost/cat.png", "no public address"),
        ("http://example.org/cat.png", "only https"),
        ("file:///etc/passwd", "only https"),
        ("data:image/png;base64,AAAA", "neither PNG"),
        ("data:image/png,AAAA", ";base64,"),
    ],
)
def test_what_cannot_be_seen_is_refused_in_words(gpt, url, words):
    with pytest.raises(openai.BadRequestError, match=words):
        ask(gpt, picture(url))


def test_a_model_that_reads_text_only_says_so(server):
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)
    with pytest.raises(openai.BadRequestError, match="reads text only"):
        ask(client, picture(address()), model="sampan-nano")
