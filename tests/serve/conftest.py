"""One server on a small random model for all tests that only ask it things."""

from __future__ import annotations

import openai
import pytest

from cutaway.serve.app import application
from cutaway.serve.bounds import Bounds
from cutaway.serve.roster import Embedder, Roster
from cutaway.serve.run import Running

from ..infer.sentences import sentence_folder
from . import small


@pytest.fixture(scope="session")
def language(tmp_path_factory):
    return small.language(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(language):
    """The model that `server` serves."""
    return small.speaker(language)


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    from cutaway.infer.load import load

    return Embedder("vectors", load(sentence_folder(tmp_path_factory.mktemp("vectors"))))


@pytest.fixture(scope="session")
def server(tiny, embedder):
    bounds = Bounds(body=20_000, prompts=8, samples=4, tops=5, texts=40, running=8, waiting=8, grace=0)
    with Running(application(Roster([tiny, embedder]), bounds)) as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client
