import anthropic
import pytest


@pytest.fixture(scope="session")
def claude(server):
    """The official client, pointed at our server."""
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def model_id(claude):
    return claude.models.list().data[0].id


@pytest.fixture
def create(claude, model_id):
    """One question; keyword arguments override the settings."""

    def create(text="Hello, who are you?", **settings):
        request = {"model": model_id, "max_tokens": 16, "messages": [{"role": "user", "content": text}]}
        return claude.messages.create(**{**request, **settings})

    return create
