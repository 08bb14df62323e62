# On an existing cluster: Seldon Core 1.x, kube-prometheus-stack, and the feedback metrics server by its chart.
# Which cluster is said by whoever calls this module, or by KUBE_CONFIG_PATH.

locals {
  release = "kube-prometheus-stack" # the label that its Prometheus asks monitors and rules for

  # Lists of `values` replace those above them, so the components are put together here.
  components = concat(
    var.monitoring ? ["prometheus-operator"] : [],
    local.slack ? ["alertmanager"] : [],
    lookup(var.values, "components", []),
  )
  slack = var.monitoring && nonsensitive(var.slack_url != null)
}

resource "kubernetes_namespace_v1" "models" {
  metadata {
    name = var.models_namespace
    labels = {
      "feedback-metrics-server/sender" = "true"
    }
  }
}

resource "kubernetes_namespace_v1" "server" {
  metadata {
    name = var.namespace
    labels = {
      "pod-security.kubernetes.io/enforce" = "restricted"
    }
  }
}

resource "helm_release" "seldon_core" {
  count = var.seldon_core ? 1 : 0

  name             = "seldon-core"
  namespace        = "seldon-system"
  create_namespace = true
  repository       = "https://storage.googleapis.com/seldon-charts"
  chart            = "seldon-core-operator"
  version          = var.seldon_core_version
  atomic           = true

  values = [
    yamlencode({
      usageMetrics = { enabled = false }
      # Where the executors log to when a model says nothing else.
      executor = { requestLogger = { defaultEndpoint = local.address } }
    }),
    yamlencode(var.seldon_core_values),
  ]
}

resource "helm_release" "monitoring" {
  count = var.monitoring ? 1 : 0

  name             = local.release
  namespace        = "monitoring" # the NetworkPolicy of the server lets this one in
  create_namespace = true
  repository       = "https://prometheus-community.github.io/helm-charts"
  chart            = "kube-prometheus-stack"
  version          = var.monitoring_version
  atomic           = true
  timeout          = 900

  values = [
    yamlencode({
      grafana = { sidecar = { dashboards = { enabled = true, searchNamespace = "ALL" } } }
      # Monitors of models, as in deploy/examples/seldon, have no label of this release.
      prometheus = {
        prometheusSpec = { podMonitorSelectorNilUsesHelmValues = false, serviceMonitorSelectorNilUsesHelmValues = false }
      }
    }),
    yamlencode(var.monitoring_values),
  ]
}

resource "kubernetes_secret_v1" "slack" {
  count = local.slack ? 1 : 0

  metadata {
    name      = "feedback-metrics-server-slack"
    namespace = kubernetes_namespace_v1.server.metadata[0].name
  }

  data = {
    url = var.slack_url
  }
}

resource "kubernetes_config_map_v1" "dashboards" {
  for_each = var.monitoring ? fileset("${path.module}/../dashboards", "*.json") : toset([])

  metadata {
    name      = "feedback-metrics-server-${trimsuffix(each.key, ".json")}"
    namespace = kubernetes_namespace_v1.server.metadata[0].name
    labels = {
      grafana_dashboard = "1" # what Grafana's sidecar looks for
    }
  }

  data = {
    (each.key) = file("${path.module}/../dashboards/${each.key}")
  }
}

resource "helm_release" "server" {
  name      = "feedback-metrics-server"
  namespace = kubernetes_namespace_v1.server.metadata[0].name
  chart     = "${path.module}/../helm"
  atomic    = true

  values = [
    yamlencode(var.values),
    yamlencode({
      image      = var.image
      components = local.components
      alerts     = { runbooks = var.runbooks, outputMeanMinimum = var.output_mean_minimum }
      labels     = merge(lookup(var.values, "labels", {}), var.monitoring ? { release = local.release } : {})
    }),
  ]

  # The kinds ServiceMonitor and PrometheusRule come with the operator, and the webhook is asked for by its routing.
  depends_on = [helm_release.monitoring, kubernetes_secret_v1.slack]
}
