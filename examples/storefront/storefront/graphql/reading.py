"""What one operation reads, and by what its answer falls."""

from asyncio import Lock
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.dataloader import DataLoader

from storefront.catalogue import service as catalogue
from storefront.catalogue.schemas import Facets, Filters, Listing, ProductOut
from storefront.paging import Page
from storefront.reviews import service as reviews
from storefront.reviews.schemas import RatingOut


class Reading:
    """The context of one operation: through it everything is read, by the services that REST has.

    Fields are resolved at the same time, and a session takes one statement at a time: so they take turns. What is asked
    for by id is gathered first: however many fields ask, it is one statement.
    """

    def __init__(self, session: AsyncSession) -> None:
        self.products = DataLoader[int, ProductOut | None](self._products)
        self.ratings = DataLoader[int, RatingOut](self._ratings)
        self.tags = set[str]()
        self._session = session
        self._turn = Lock()

    async def page(self, listing: Listing) -> Page[ProductOut]:
        """Read one page of a list, or raise `BadCursor`."""
        self.tags.add("products")
        async with self._turn:
            return await catalogue.page(self._session, listing)

    async def facets(self, filters: Filters) -> Facets:
        """Count the diamonds that pass the filters."""
        self.tags.add("facets")
        async with self._turn:
            return await catalogue.facets(self._session, filters)

    async def _products(self, ids: list[int]) -> Sequence[ProductOut | None]:
        self.tags.update(f"product:{one}" for one in ids)
        async with self._turn:
            found = await catalogue.products(self._session, ids)
        if len(found) < len(ids):
            # Unlike a 404 this answer is stored: a product that is added later has to make it fall.
            self.tags.add("products")
        return [found.get(one) for one in ids]

    async def _ratings(self, ids: list[int]) -> Sequence[RatingOut]:
        self.tags.update(f"reviews:{one}" for one in ids)
        async with self._turn:
            return await reviews.ratings(self._session, ids)
