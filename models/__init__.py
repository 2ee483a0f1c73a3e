"""What a model is here, and how one is run. torch is imported inside adapters only, and late."""
