"""Bounds on what a body may be; each is named in the error that it causes."""

from msgspec import Struct


class BodyLimits(Struct, frozen=True):
    """Applied in Envoy (size) and in the picker (all). The flag of each is its name with dashes: `--max-body-bytes`."""

    max_body_bytes: int = 16 * 1024 * 1024
    max_body_depth: int = 128
    """Nesting of arrays and objects."""
    max_model_bytes: int = 256
    """UTF-8 length of a model name; InferenceModel allows no more either."""
    max_multipart_parts: int = 128
    max_answer_bytes: int = 64 * 1024
    """JSON answers up to this length are read whole, where a name has to be restored or the proxy shows all of them."""
