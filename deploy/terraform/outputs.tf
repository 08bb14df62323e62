locals {
  address = "http://feedback-metrics-server.${var.namespace}.svc.cluster.local/"
}

output "address" {
  description = "Where the loggers of models send to, from within the cluster."
  value       = local.address
}

output "page" {
  description = "How to see the server's page on this machine, at http://127.0.0.1:8080/."
  value       = "kubectl --namespace ${var.namespace} port-forward service/feedback-metrics-server 8080:80"
}
