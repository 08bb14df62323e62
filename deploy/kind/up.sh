#!/usr/bin/env bash
# From nothing to the walkthrough on a laptop: a cluster of kind, the image, the server and the simulator. Running it again updates them.
set -euo pipefail
cd "$(dirname "$0")/../.."

cluster=feedback-metrics-server
for program in docker kind kubectl; do
    command -v "$program" >/dev/null || { echo "up.sh: $program is missing" >&2; exit 1; }
done
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' metrics_server/__init__.py)
kubectl() { command kubectl --context "kind-$cluster" "$@"; }

docker build --file deploy/image/Dockerfile --tag "feedback-metrics-server:$version" .
docker build --file deploy/image/Dockerfile --target demo --tag "feedback-metrics-server-demo:$version" .

kind get clusters 2>/dev/null | grep -qx "$cluster" || kind create cluster --config deploy/kind/cluster.yaml --wait 3m
kind load docker-image --name "$cluster" "feedback-metrics-server:$version" "feedback-metrics-server-demo:$version"

kubectl apply --kustomize deploy/kind
for deployment in feedback-metrics-server simulator; do
    kubectl --namespace metrics rollout restart "deployment/$deployment" # an image built anew has the old tag
    kubectl --namespace metrics rollout status "deployment/$deployment" --timeout 5m
done

cat <<END

The server's page:           http://127.0.0.1:8080/
The ingress of the models:   kubectl --context kind-$cluster -n metrics port-forward deployment/simulator 8003
The walkthrough:             notebooks/README.md
The end of it all:           kind delete cluster --name $cluster
END
