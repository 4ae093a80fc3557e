"""All SQL of uploads."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from storefront.uploads.models import Upload


async def upload(session: AsyncSession, product_id: int, file_id: str) -> Upload | None:
    """Read one file of a product, as it is now."""
    statement = select(Upload).where(Upload.id == file_id, Upload.product_id == product_id)
    return (await session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()


async def of_product(session: AsyncSession, product_id: int, offset: int, limit: int) -> Sequence[Upload]:
    """Read some files of a product, the newest first."""
    statement = select(Upload).where(Upload.product_id == product_id).order_by(Upload.uploaded_at.desc(), Upload.id)
    return (await session.scalars(statement.offset(offset).limit(limit))).all()


async def count(session: AsyncSession, product_id: int) -> int:
    """Count the files of a product."""
    return await session.scalar(select(func.count()).select_from(Upload).where(Upload.product_id == product_id)) or 0


async def replace(session: AsyncSession, file_id: str, blob: str, values: Mapping[str, Any]) -> Upload | None:
    """Let a file have other bytes, if it still has those of `blob`."""
    statement = (
        update(Upload)
        .where(Upload.id == file_id, Upload.blob == blob)
        .values(**values)
        .returning(Upload)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).one_or_none()


async def remove(session: AsyncSession, product_id: int, file_id: str) -> str | None:
    """Remove one file, and tell where its bytes lie; None where there was none."""
    statement = delete(Upload).where(Upload.id == file_id, Upload.product_id == product_id).returning(Upload.blob)
    return (await session.scalars(statement)).one_or_none()


async def blobs(session: AsyncSession) -> set[str]:
    """Name all bytes that a row speaks of."""
    return set(await session.scalars(select(Upload.blob)))
