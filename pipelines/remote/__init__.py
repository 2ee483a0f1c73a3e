"""The one door to the network: addresses checked, requests signed, retried, counted, and bytes kept."""
