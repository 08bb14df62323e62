"""Bodies of gRPC calls, as KServe's agent logs them."""

from __future__ import annotations

import struct

from metrics_server.ingest.payload.pb import inference_pb2

GRPC = "application/grpc"


def frame(message: bytes, flag: int = 0) -> bytes:
    """A message behind its prefix."""
    return struct.pack(">BI", flag, len(message)) + message


def answer(*values: int) -> bytes:
    """A ModelInferResponse of KServe's Python server."""
    contents = inference_pb2.InferTensorContents(int64_contents=values)
    tensor = inference_pb2.InferOutputTensor(name="p", datatype="INT64", shape=[len(values)], contents=contents)
    return inference_pb2.ModelInferResponse(model_name="iris", outputs=[tensor]).SerializeToString()
