"""Making an instance at home on a machine: user, folders, configuration, service. Used by `dlqueue setup` only."""
