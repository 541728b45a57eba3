"""What `argus doctor` looks at before a cluster is started, or when it does not do well."""
