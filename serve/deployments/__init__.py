"""What Ray Serve runs: the API, the models, the dispatcher; and the keeper that sees to it that they run."""
