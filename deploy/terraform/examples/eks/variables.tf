variable "region" {
  description = "Region of AWS."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "Name of the cluster and its network."
  type        = string
  default     = "feedback-metrics"
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.33"
}

variable "instance_types" {
  description = "Machines of the nodes; Prometheus and Seldon Core together want 4 GiB and more."
  type        = list(string)
  default     = ["m6i.large"]
}

variable "admin_networks" {
  description = "Networks from which the API of the cluster is reached, such as [\"203.0.113.0/24\"]."
  type        = list(string)

  validation {
    condition     = length(var.admin_networks) > 0 && !contains(var.admin_networks, "0.0.0.0/0")
    error_message = "Name your own networks; 0.0.0.0/0 is everybody."
  }
}

variable "image" {
  description = "Where the cluster gets the image of the server."
  type = object({
    repository = string
    tag        = optional(string, "")
  })
}

variable "runbooks" {
  description = "Address of the page that a message about an alert leads to; empty for no link."
  type        = string
  default     = ""
}

variable "output_mean_minimum" {
  description = "No average prediction may be below; null for none."
  type        = number
  default     = null
}

variable "slack_url" {
  description = "Address of an incoming webhook of Slack; null for no messages."
  type        = string
  default     = null
  sensitive   = true
}
