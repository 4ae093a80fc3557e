"""Prices in other currencies, by the rates of a bank that is asked over HTTP."""
