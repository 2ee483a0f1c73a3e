"""``python -m tests.serve.chaos --rounds 100 --seed 1 --out chaos.json``: one line per round."""

from tests.serve.chaos.rounds import main

main()
