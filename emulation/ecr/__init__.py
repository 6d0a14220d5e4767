"""ECR: a registry that docker, skopeo and oras push to and pull from, and the AWS API over the same images."""
