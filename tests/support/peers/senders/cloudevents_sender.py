"""The Python SDK of CloudEvents, old (1.x) or new (2.x), told by lines of JSON what to send where."""

import json
import sys
import urllib.error
import urllib.request

try:
    from cloudevents.core.bindings.http import to_binary_event, to_structured_event
    from cloudevents.core.v1.event import CloudEvent

    SPECVERSION = {"specversion": "1.0"}  # version 1 of the SDK sets it

    def write(event, mode):
        message = {"binary": to_binary_event, "structured": to_structured_event}[mode](event)
        return message.headers, message.body

except ImportError:
    from cloudevents.http import CloudEvent, to_binary, to_structured

    SPECVERSION = {}

    def write(event, mode):
        return {"binary": to_binary, "structured": to_structured}[mode](event)


def send(job):
    event = CloudEvent({**SPECVERSION, **job["attributes"]}, job["data"])
    headers, body = write(event, job["mode"])
    request = urllib.request.Request(job["url"], bytes(body), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status


for line in sys.stdin:
    try:
        status = send(json.loads(line))
    except urllib.error.HTTPError as error:
        status = error.code
    print(json.dumps({"status": status}), flush=True)
