"""A gRPC client of a model server, told by lines of JSON what to ask. It hands on the bytes of request and answer."""

import base64
import json
import sys

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def infer(job):
    rows = job["rows"]
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[len(rows), len(rows[0])])
    tensor.contents.fp64_contents.extend(value for row in rows for value in row)
    request = pb.ModelInferRequest(model_name="flower", id=job["id"], inputs=[tensor])
    with grpc.insecure_channel(job["endpoint"]) as channel:
        call = channel.unary_unary(METHOD, pb.ModelInferRequest.SerializeToString, bytes)
        answer = call(request, timeout=20)
    return {
        "request": base64.b64encode(request.SerializeToString()).decode(),
        "response": base64.b64encode(answer).decode(),
    }


for line in sys.stdin:
    print(json.dumps(infer(json.loads(line))), flush=True)
