# A cluster on Amazon EKS in a network of its own, and all of deploy/terraform on it.
# In two steps, for the second cannot be planned before there is a cluster to ask:
#
#   tofu apply -target module.cluster
#   tofu apply

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.0"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 2.25"
    }
  }
}

provider "aws" {
  region = var.region
}

data "aws_availability_zones" "available" {
  state = "available"
}

locals {
  zones = slice(data.aws_availability_zones.available.names, 0, 2)

  # A token of a few minutes, asked for anew by each run, so that none is kept.
  login = {
    api_version = "client.authentication.k8s.io/v1beta1"
    command     = "aws"
    args        = ["eks", "get-token", "--cluster-name", module.cluster.cluster_name, "--region", var.region]
  }
}

module "network" {
  source  = "terraform-aws-modules/vpc/aws"
  version = "~> 6.0"

  name            = var.name
  cidr            = "10.0.0.0/16"
  azs             = local.zones
  private_subnets = ["10.0.0.0/20", "10.0.16.0/20"]
  public_subnets  = ["10.0.128.0/24", "10.0.129.0/24"]

  enable_nat_gateway = true
  single_nat_gateway = true
}

module "cluster" {
  source  = "terraform-aws-modules/eks/aws"
  version = "~> 21.0"

  name               = var.name
  kubernetes_version = var.kubernetes_version
  vpc_id             = module.network.vpc_id
  subnet_ids         = module.network.private_subnets

  endpoint_public_access                   = true
  endpoint_public_access_cidrs             = var.admin_networks
  enable_cluster_creator_admin_permissions = true

  addons = {
    coredns                = {}
    eks-pod-identity-agent = { before_compute = true }
    kube-proxy             = {}
    vpc-cni                = { before_compute = true, configuration_values = jsonencode({ enableNetworkPolicy = "true" }) }
    aws-ebs-csi-driver = { # the volume of the state is a disk
      pod_identity_association = [{ role_arn = aws_iam_role.disks.arn, service_account = "ebs-csi-controller-sa" }]
    }
  }

  eks_managed_node_groups = {
    default = {
      instance_types = var.instance_types
      min_size       = 2
      max_size       = 4
      desired_size   = 2
    }
  }
}

resource "aws_iam_role" "disks" {
  name = "${var.name}-disks"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })
}

resource "aws_iam_role_policy_attachment" "disks" {
  role       = aws_iam_role.disks.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
}

provider "kubernetes" {
  host                   = module.cluster.cluster_endpoint
  cluster_ca_certificate = base64decode(module.cluster.cluster_certificate_authority_data)

  exec {
    api_version = local.login.api_version
    command     = local.login.command
    args        = local.login.args
  }
}

provider "helm" {
  kubernetes = {
    host                   = module.cluster.cluster_endpoint
    cluster_ca_certificate = base64decode(module.cluster.cluster_certificate_authority_data)
    exec                   = local.login
  }
}

resource "kubernetes_storage_class_v1" "disk" {
  metadata {
    name = "gp3"
  }

  storage_provisioner    = "ebs.csi.aws.com"
  volume_binding_mode    = "WaitForFirstConsumer"
  allow_volume_expansion = true

  parameters = {
    type      = "gp3"
    encrypted = "true"
  }
}

module "feedback" {
  source = "../.."

  image               = var.image
  runbooks            = var.runbooks
  output_mean_minimum = var.output_mean_minimum
  slack_url           = var.slack_url

  values = {
    storage = { className = kubernetes_storage_class_v1.disk.metadata[0].name }
  }
}

output "kubeconfig" {
  description = "How to let kubectl know the cluster."
  value       = "aws eks update-kubeconfig --region ${var.region} --name ${module.cluster.cluster_name}"
}

output "page" {
  description = "How to see the server's page on this machine."
  value       = module.feedback.page
}
