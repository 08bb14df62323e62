#!/bin/sh
# Writes the locks of the image anew, with the newest versions that pyproject.toml allows. Needs `pip install pip-tools` and Python 3.11,
# the version of the image.
set -eu
cd "$(dirname "$0")/../.."
server="--extra web --extra protobuf --extra kafka --extra postgres"
demo=$(mktemp)
trap 'rm -f "$demo"' EXIT

lock() {
    # shellcheck disable=SC2086 # extras are several words
    CUSTOM_COMPILE_COMMAND=deploy/image/lock.sh pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
        --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file "$1" $2 pyproject.toml
}

lock deploy/image/requirements.txt "$server"
lock deploy/image/requirements-build.txt "--only-build-deps --build-deps-for wheel"
lock "$demo" "$server --extra demo --constraint deploy/image/requirements.txt"
# Only what comes to the server's packages.
{
    echo "# What the demonstration needs beside requirements.txt; made by deploy/image/lock.sh."
    grep -vxFf deploy/image/requirements.txt "$demo"
} > deploy/image/requirements-demo.txt
