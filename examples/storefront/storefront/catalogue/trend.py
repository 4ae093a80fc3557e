"""How prices go with weight: work for a processor, so it is done in another process."""

from collections.abc import Iterable
from math import exp, log
from statistics import linear_regression

from storefront.catalogue.schemas import Trend


def trend(weighed: Iterable[tuple[float, int]]) -> Trend:
    """Fit price = base × carat ^ exponent, by least squares over the logarithms."""
    logs = [(log(carat), log(price)) for carat, price in weighed if carat > 0 and price > 0]
    slope, intercept = linear_regression([carat for carat, _ in logs], [price for _, price in logs])
    return Trend(base=round(exp(intercept), 2), exponent=round(slope, 4), count=len(logs))
