"""The Geospatial Studio's v2 API over our desk. COVERAGE.md says what works and what does not."""
