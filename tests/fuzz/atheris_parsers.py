"""Coverage-guided search in the parsers that face others: `make fuzz` runs it.

    python tests/fuzz/atheris_parsers.py PARSER [libFuzzer's flags, such as -max_total_time=60]

What a parser raises beside our own errors ends the search, with the input in a file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["argus"]):
    from argus.auth.key_file import parse_keys
    from argus.cache.codec import decode
    from argus.config import load_config
    from argus.control.levels import parse_profile
    from argus.control.profile import CostProfile
    from argus.control.tenants import parse_tenants
    from argus.diffusion.folder import pipeline_class
    from argus.errors import ArgusError
    from argus.rpc.convert import image_request_from_proto
    from argus.rpc.convert_cluster import node_info_from_proto, work_from_proto
    from argus.rpc.utf8 import MalformedRequest, tolerant
    from argus.v1 import cluster_pb2, image_pb2

FOLDER = Path(tempfile.mkdtemp(prefix="argus-fuzz-"))
generate = tolerant(image_pb2.GenerateRequest.FromString, "/argus.v1.ImageService/Generate")
join = tolerant(cluster_pb2.JoinRequest.FromString, "/argus.v1.ClusterService/Join")
work = tolerant(cluster_pb2.JoinResponse.FromString, "/argus.v1.ClusterService/Join")


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def request(data: bytes) -> None:
    message = generate(data)
    if not isinstance(message, MalformedRequest):
        image_request_from_proto(message)


def hello(data: bytes) -> None:
    message = join(data)
    if not isinstance(message, MalformedRequest):
        message.hello.protocol_version = 1
        node_info_from_proto(message.hello)


def row(data: bytes) -> None:
    message = work(data)
    if not isinstance(message, MalformedRequest):
        work_from_proto(message.work)


def config(data: bytes) -> None:
    file = FOLDER / "argus.toml"
    file.write_bytes(data)
    load_config(file, {})


def model(data: bytes) -> None:
    (FOLDER / "model_index.json").write_bytes(data)
    pipeline_class(FOLDER)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "request": request,
    "hello": hello,
    "row": row,
    "config": config,
    "model": model,
    "tenants": lambda data: parse_tenants(text(data), "tenants"),
    "keys": lambda data: parse_keys(text(data), "keys"),
    "levels": lambda data: parse_profile(text(data), "levels"),
    "costs": lambda data: CostProfile.from_json(text(data), "costs"),
    "states": lambda data: decode(memoryview(data)),
}


def main() -> None:
    name, *flags = sys.argv[1:]
    parse = PARSERS[name]

    def one(data: bytes) -> None:
        try:
            parse(data)
        except ArgusError as error:
            json.dumps(str(error))

    atheris.Setup([sys.argv[0], *flags], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print(*PARSERS)
    else:
        main()
