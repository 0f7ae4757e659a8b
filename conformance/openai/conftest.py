import openai
import pytest


def client_of(server, **settings):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120, **settings)


@pytest.fixture(scope="session")
def client(server):
    return client_of(server)


@pytest.fixture(scope="session")
def model(client):
    return client.models.list().data[0].id


@pytest.fixture
def ask(client, model):
    """One question with neutral settings; keyword arguments override them."""

    def ask(text="Hello, who are you?", **settings):
        request = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 16, "temperature": 0}
        return client.chat.completions.create(**{**request, **settings})

    return ask
