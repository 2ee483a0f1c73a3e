"""The front door: the command line today, deployments and APIs beside it."""
