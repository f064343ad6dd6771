"""AWS: the connection, its errors, and objects in S3."""
