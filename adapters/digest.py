"""A short hash of a JSON value, which identifies it in files."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """Return a hash of a JSON value, 16 hexadecimal digits. The order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
