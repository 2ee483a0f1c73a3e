"""Seeded kills of a whole service, while users submit jobs and listen to them."""
