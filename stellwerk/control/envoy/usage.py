"""Token counts out of streamed answers, inside Envoy: the bytes pass untouched and never visit the picker.

Each rule copies one number of an event's JSON into dynamic metadata, where the access log finds it. The last event
that has it wins, so continuous usage reports work too. JSON answers are read by the picker instead.
"""

from stellwerk.control.envoy.document import Document, extension

NAMESPACE = "stellwerk.usage"
PROMPT, CACHED, OUTPUT = "prompt_tokens", "cached_tokens", "output_tokens"

_PLACES = {
    PROMPT: (
        ("usage", "prompt_tokens"),  # chat, completions
        ("usage", "input_tokens"),  # Anthropic's message_delta, from vLLM
        ("message", "usage", "input_tokens"),  # Anthropic's message_start
        ("response", "usage", "input_tokens"),  # responses
    ),
    CACHED: (
        ("usage", "prompt_tokens_details", "cached_tokens"),
        ("usage", "cache_read_input_tokens"),
        ("message", "usage", "cache_read_input_tokens"),
        ("response", "usage", "input_tokens_details", "cached_tokens"),
    ),
    OUTPUT: (
        ("usage", "completion_tokens"),
        ("usage", "output_tokens"),
        ("response", "usage", "output_tokens"),
    ),
}

_MAX_EVENT_BYTES = 1024 * 1024
"""The last event of the responses API carries the whole answer. A longer one is passed on unread."""


def usage_filter() -> Document:
    """`sse_to_metadata`: looks at answers of type text/event-stream only."""
    rules = [_rule(path, key) for key, paths in _PLACES.items() for path in paths]
    parser = extension(
        "envoy.content_parsers.json", "envoy.extensions.content_parsers.json.v3.JsonContentParser", rules=rules
    )
    return extension(
        "envoy.filters.http.sse_to_metadata",
        "envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata",
        response_rules={"content_parser": parser, "max_event_size": _MAX_EVENT_BYTES},
    )


def _rule(path: tuple[str, ...], key: str) -> Document:
    return {
        "rule": {
            "selectors": [{"key": name} for name in path],
            "on_present": {"metadata_namespace": NAMESPACE, "key": key, "type": "NUMBER"},
        }
    }
