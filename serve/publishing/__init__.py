"""Other map servers on which results are shown beside our own tiles."""
