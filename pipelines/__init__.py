"""From a recipe to a finished map product: plan, read, process, publish."""
