"""Protobuf messages of the protocols, as far as they are read.

After a change of a .proto file, in the project's folder:
python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. metrics_server/ingest/payload/pb/*.proto
"""
