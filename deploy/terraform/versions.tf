terraform {
  required_version = ">= 1.6" # OpenTofu or Terraform

  required_providers {
    helm = {
      source  = "hashicorp/helm"
      version = ">= 2.12, < 4.0" # no argument stands here that 2 and 3 write differently
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.25, < 4.0"
    }
  }
}
