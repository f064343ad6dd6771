"""AWS: S3 and Secrets Manager."""
