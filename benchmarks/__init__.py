"""Tiercel beside its peers, in one run: `python -m benchmarks [--quick] [name ...]`.

Peers alternate in rounds, so that what else the machine does hits all of them; ratios are taken within a round.
"""
