"""Seldon's own client, told by lines of JSON what to send; it remembers its predictions by their keys."""

import base64
import json
import sys

import numpy as np
from google.protobuf import json_format
from seldon_core.proto import prediction_pb2
from seldon_core.seldon_client import SeldonClient

PREDICTIONS = {}


def client(job):
    return SeldonClient(
        gateway="ambassador",
        transport="rest",
        gateway_endpoint=job["endpoint"],
        namespace=job["namespace"],
        deployment_name=job["deployment"],
    )


def predict(job):
    more = {"raw_data": job["raw"]} if "raw" in job else {"data": np.array(job["rows"])}
    form = job.get("payload_type", "ndarray")
    made = client(job).predict(payload_type=form, headers=job.get("headers"), meta={}, **more)
    assert made.success, made.msg
    PREDICTIONS[job["key"]] = made
    return {"response": made.response}


def message(content):
    return json_format.ParseDict(content, prediction_pb2.SeldonMessage())


def parts(job):
    made = PREDICTIONS[job["key"]]
    request = message(made.request) if isinstance(made.request, dict) else made.request
    return {"request": request, "response": message(made.response)}


def truth(job):
    return None if job.get("truth") is None else message({"data": job["truth"]})


def feedback(job):
    sent = {f"prediction_{name}": part for name, part in parts(job).items()}
    done = client(job).feedback(prediction_truth=truth(job), reward=job.get("reward", 0), **sent)
    return {"success": done.success}


def encode(job):
    made = prediction_pb2.Feedback(**parts(job), truth=truth(job), reward=job.get("reward", 0))
    return {"body": base64.b64encode(made.SerializeToString()).decode()}


def encode_response(job):
    return {"body": base64.b64encode(parts(job)["response"].SerializeToString()).decode()}


JOBS = {"predict": predict, "feedback": feedback, "encode": encode, "encode_response": encode_response}


def answer(job):
    try:
        return JOBS[job["do"]](job)
    except Exception as error:
        return {"error": repr(error)}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
