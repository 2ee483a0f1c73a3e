"""The use cases, in our own words: every API speaks to these, and they know none."""
