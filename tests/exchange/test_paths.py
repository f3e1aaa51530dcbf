import pytest

from stellwerk.exchange.paths import classify, model_name
from stellwerk.model.request import Api


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", Api.CHAT),
        ("/v1/chat/completions?api-version=2024/x", Api.CHAT),
        ("/v1/chat/completions/", Api.CHAT),
        ("//v1//chat//completions", Api.CHAT),
        ("/team-a/openai/v1/chat/completions", Api.CHAT),
        ("/v1/chat/completions/render", Api.CHAT),
        ("/v1/completions", Api.COMPLETIONS),
        ("/v1/embeddings", Api.EMBEDDINGS),
        ("/pooling", Api.EMBEDDINGS),
        ("/classify", Api.EMBEDDINGS),
        ("/v1/responses", Api.RESPONSES),
        ("/v1/messages", Api.MESSAGES),
        ("/prefix/v1/messages/count_tokens", Api.COUNT_TOKENS),
        ("/rerank", Api.RERANK),
        ("/v1/rerank", Api.RERANK),
        ("/v2/rerank", Api.RERANK),
        ("/score", Api.SCORE),
        ("/v1/score", Api.SCORE),
        ("/tokenize", Api.TOKENIZE),
        ("/v1/audio/transcriptions", Api.AUDIO),
        ("/v1/audio/translations", Api.AUDIO),
        ("/v1/audio/speech", Api.AUDIO),
        ("/v1/images/generations", Api.IMAGES),
        ("/v1/images/edits", Api.IMAGES),
        ("/v1/responses/resp_1/cancel", Api.OTHER),
        ("/v1/chatcompletions", Api.OTHER),
        ("/v1/chat/completionsx", Api.OTHER),
        ("/v1/audio", Api.OTHER),
        ("/v1/models", Api.OTHER),
        ("/", Api.OTHER),
        ("", Api.OTHER),
        ("?/v1/chat/completions", Api.OTHER),
    ],
)
def test_the_last_segments_of_a_posts_path_name_its_api(path: str, api: Api) -> None:
    assert classify("POST", path) is api


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/models", Api.MODELS),
        ("/v1/models/", Api.MODELS),
        ("/v1/models?limit=3", Api.MODELS),
        ("/prefix/v1/models", Api.MODELS),
        ("/v1/models/llama", Api.MODEL),
        ("/v1/models/meta/llama", Api.MODEL),
        ("/v1/modelsx", Api.OTHER),
        ("/models", Api.OTHER),
        ("/v1/responses/resp_1", Api.OTHER),
        ("/v1/chat/completions", Api.OTHER),
    ],
)
def test_a_get_asks_about_models_or_passes(path: str, api: Api) -> None:
    assert classify("GET", path) is api


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "CONNECT", "post", ""])
def test_other_methods_pass(method: str) -> None:
    assert classify(method, "/v1/chat/completions") is Api.OTHER
    assert classify(method, "/v1/models") is Api.OTHER


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models/llama", "llama"),
        ("/v1/models/meta-llama/Llama-3?x=/v1/models/y", "meta-llama/Llama-3"),
        ("/v1/models/meta%2Fllama%203", "meta/llama 3"),
        ("/a/v1/models/v1/models/b", "v1/models/b"),
        ("/v1/models/%ff", "\ufffd"),
        ("/v1/models/%", "%"),
        ("/v1/models", ""),
        ("/other", ""),
    ],
)
def test_a_model_is_named_by_the_rest_of_the_path(path: str, name: str) -> None:
    assert model_name(path) == name
