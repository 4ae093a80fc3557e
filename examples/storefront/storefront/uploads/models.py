"""The table of uploads."""

from datetime import datetime

from sqlalchemy import Enum, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from storefront.database import Model, Moment
from storefront.uploads.kinds import Kind
from storefront.uploads.names import LONGEST

ID_BYTES = 12
"""Of a name that nobody guesses, which is written in hexadecimal; with `file:` before it is a tag that caches outside
take, too: at most 32 characters, RFC 9875 §2."""


def _types(kinds: type[Kind]) -> list[str]:
    return [kind.value for kind in kinds]


class Upload(Model):
    """A file of a product. `blob` is where its bytes lie: those of another version of it lie elsewhere."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(2 * ID_BYTES), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(LONGEST))
    kind: Mapped[Kind] = mapped_column(Enum(Kind, native_enum=False, length=32, values_callable=_types))
    size: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    blob: Mapped[str] = mapped_column(String(32), unique=True)
    uploaded_at: Mapped[datetime] = mapped_column(Moment)
