"""The Python client of a service: one implementation that awaits, and a blocking face before it.

Part of the light wheel: httpx2 and the vocabulary, nothing that reads imagery.
"""
