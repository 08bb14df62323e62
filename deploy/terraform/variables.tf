variable "namespace" {
  description = "Where the server is."
  type        = string
  default     = "metrics"
}

variable "models_namespace" {
  description = "Where the models are; its pods may send events to the server."
  type        = string
  default     = "seldon"
}

variable "seldon_core" {
  description = "Whether Seldon Core is installed. Releases after 1.17.1 have a licence that restricts their use."
  type        = bool
  default     = true
}

variable "seldon_core_version" {
  description = "Version of the chart seldon-core-operator."
  type        = string
  default     = "1.17.1"
}

variable "seldon_core_values" {
  description = "Values for the chart seldon-core-operator, such as its ingress: {istio = {enabled = true}}."
  type        = any
  default     = {}
}

variable "monitoring" {
  description = "Whether kube-prometheus-stack is installed: Prometheus, Alertmanager and Grafana, with their operator."
  type        = bool
  default     = true
}

variable "monitoring_version" {
  description = "Version of the chart kube-prometheus-stack."
  type        = string
  default     = "77.6.2"
}

variable "monitoring_values" {
  description = "Values for the chart kube-prometheus-stack, beside those that let it see the server."
  type        = any
  default     = {}
}

variable "image" {
  description = "Where the cluster gets the image of the server; without a tag, that of the chart's version."
  type = object({
    repository = string
    tag        = optional(string, "")
  })
}

variable "values" {
  description = "More values for the chart of the server, as deploy/helm/README.md lists them."
  type        = any
  default     = {}
}

variable "runbooks" {
  description = "Address of the page that a message about an alert leads to, with # and the alert behind it; empty for no link."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(https?://[^#[:space:]]+)?$", var.runbooks))
    error_message = "The runbooks must be an address of a page, without #."
  }
}

variable "output_mean_minimum" {
  description = "No average prediction may be below, but for deployments with an objective of their own; null for none."
  type        = number
  default     = null
}

variable "slack_url" {
  description = "Address of an incoming webhook of Slack; null for no messages. It is kept in the state of Terraform."
  type        = string
  default     = null
  sensitive   = true
}
