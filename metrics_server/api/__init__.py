"""What the server tells: the JSON API, /v1/metrics and the OpenAPI document, all read from the same totals."""
