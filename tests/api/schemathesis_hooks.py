"""Loaded by schemathesis: most generated requests name the model that is served, or nearly all would end in a 404."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """Replace the model's name in four bodies of five."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 5:
        return {**body, "model": "scripted"}
    return body
