"""What uploads give."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from storefront.uploads.kinds import Kind


class FileOut(BaseModel):
    """A file of a product: `size` in bytes, `digest` the SHA-256 of its bytes, in hexadecimal."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    product_id: int
    name: str
    kind: Kind
    size: int
    digest: str
    uploaded_at: datetime
