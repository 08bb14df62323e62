"""The page `/doc/` of a deployment, as Seldon's executors have it: its API as OpenAPI document, and forms to try it.

Seldon serves Swagger UI there. That is a megabyte of scripts; this page has the same calls and needs nothing from
elsewhere.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from metrics_server.commands.simulation.cluster import Deployment

PUID = {"puid": "try-1"}  # by which the truth of the example finds its prediction

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 sans-serif; margin: 2rem; max-width: 50rem }}
textarea {{ width: 100%; height: 8rem }}
</style>
<h1>{title}</h1>
<p>The calls of this deployment, as <a href="seldon.json">OpenAPI document</a>.</p>
{forms}
<script>
for (const form of document.forms) form.onsubmit = async event => {{
  event.preventDefault();
  const headers = {{"Content-Type": "application/json"}};
  const answer = await fetch(form.action, {{method: "POST", headers, body: form.body.value}});
  form.querySelector("output").textContent = answer.status + " " + await answer.text();
}};
</script>
</html>
"""

_FORM = """<h2 id="{name}">{summary}</h2>
<form action="../{name}">
<label>POST <code>…/{name}</code><textarea name="body" spellcheck="false">{body}</textarea></label>
<button>Send</button>
<pre><output></output></pre>
</form>"""


def document(deployment: Deployment) -> dict[str, Any]:
    """Describes the calls of a deployment, below its own path, with a row that its model takes.

    Examples:
        `document(iris)["paths"]` has `/seldon/seldon/multiclass-model/api/v1.0/predictions`.
    """
    base = f"/seldon/{deployment.path}/api/v1.0"
    operations = _operations(deployment)
    return {
        "openapi": "3.0.3",  # as Seldon's document
        "info": {"title": f"{deployment.path}: Seldon External API", "version": "1.0"},
        "paths": {f"{base}/{name}": {"post": _operation(name, *told)} for name, told in operations.items()},
    }


def _operations(deployment: Deployment) -> dict[str, tuple[str, dict[str, Any]]]:
    """What each call does, and a body for it."""
    rows = deployment.held_out
    asked = {"data": {"names": rows.features, "ndarray": [rows.rows[0].tolist()]}, "meta": PUID}
    return {
        "predictions": ("Ask the models for a prediction", asked),
        "feedback": ("Tell what was true", {"truth": {"data": {"ndarray": [rows.truths[0]]}, "meta": PUID}}),
    }


def _operation(name: str, summary: str, body: dict[str, Any]) -> dict[str, Any]:
    message = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": body}},
        },
        "responses": {
            "200": {"description": "A SeldonMessage", "content": message},
            "500": {"description": "A SeldonMessage with the status FAILURE", "content": message},
        },
    }


def page(deployment: Deployment) -> str:
    """Renders the calls of a deployment as forms."""
    forms = (
        _FORM.format(name=name, summary=escape(summary), body=escape(json.dumps(body)))
        for name, (summary, body) in _operations(deployment).items()
    )
    return _PAGE.format(title=escape(deployment.path), forms="\n".join(forms))
