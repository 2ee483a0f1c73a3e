"""Ray itself: start, attach, resources, job submission, and the manifests that bring it up elsewhere."""
