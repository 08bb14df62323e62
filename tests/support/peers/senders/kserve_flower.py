"""A model server of KServe: its class is the largest of the features."""

import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Flower(Model):
    """Answers V1 in JSON, and V2 in JSON and gRPC."""

    def __init__(self):
        super().__init__("flower")
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, InferRequest):
            classes = payload.inputs[0].as_numpy().argmax(axis=1).tolist()
            output = InferOutput("class", [len(classes)], "INT64", data=classes)
            return InferResponse(payload.id, "flower", [output])
        return {"predictions": [row.index(max(row)) for row in payload["instances"]]}


if __name__ == "__main__":
    http_port, grpc_port = map(int, sys.argv[1:])
    ModelServer(http_port=http_port, grpc_port=grpc_port, workers=1).start([Flower()])
