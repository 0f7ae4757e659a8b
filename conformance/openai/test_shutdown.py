"""SIGTERM lets streams end."""

from openai import OpenAI


def test_a_stream_ends_before_the_server(fresh_server):
    client = OpenAI(base_url=fresh_server.url + "/v1", api_key="none", max_retries=0, timeout=120)
    model = client.models.list().data[0].id
    messages = [{"role": "user", "content": "Tell me a story."}]
    stream = iter(client.chat.completions.create(model=model, messages=messages, max_tokens=64, stream=True))
    next(stream)
    fresh_server.terminate()
    reasons = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
    assert reasons and reasons[-1] in ("stop", "length")
    assert fresh_server.wait_until_stopped() == 0
