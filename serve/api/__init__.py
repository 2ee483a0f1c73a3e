"""Our own HTTP API: thin endpoints over the desk."""
