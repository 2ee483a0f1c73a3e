"""Other services' APIs over our desk, one package each; whatever lies here is mounted (serve/api/dialects.py)."""
