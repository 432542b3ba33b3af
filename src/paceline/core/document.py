"""A JSON document as one field of a record: text in memory, a map on the wire.

>>> from pydantic import TypeAdapter
>>> TypeAdapter(Document).validate_python({"b": 1, "a": [2.0]})
'{"a":[2.0],"b":1}'
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer


def _spell(value: Any) -> str:
    try:
        document = json.loads(value) if isinstance(value, str) else value
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError("not a JSON document") from error
    if not isinstance(document, dict) or (isinstance(value, str) and value != text):
        raise ValueError("not a canonical JSON document")
    return text


Document = Annotated[str, Field(max_length=6000), BeforeValidator(_spell), PlainSerializer(json.loads)]
"""Canonical JSON of a map: keys sorted, no spaces. Given as that text or as the map."""
