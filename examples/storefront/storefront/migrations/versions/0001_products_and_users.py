"""Products and users."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables and the indexes of the catalogue."""
    op.create_table(
        "products",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("carat", sa.Double[float](), nullable=False),
        sa.Column("cut", sa.String(16), nullable=False),
        sa.Column("color", sa.String(16), nullable=False),
        sa.Column("clarity", sa.String(16), nullable=False),
        sa.Column("depth", sa.Double[float](), nullable=False),
        sa.Column("table", sa.Double[float](), nullable=False),
        sa.Column("x", sa.Double[float](), nullable=False),
        sa.Column("y", sa.Double[float](), nullable=False),
        sa.Column("z", sa.Double[float](), nullable=False),
        sa.Column("price", sa.Integer(), nullable=False),
        sa.Column("stock", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint("price >= 0", name=op.f("ck_products_price")),
        sa.CheckConstraint("stock >= 0", name=op.f("ck_products_stock")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_products")),
    )
    op.create_index(op.f("ix_products_price_id"), "products", ["price", "id"])
    op.create_index(op.f("ix_products_carat_id"), "products", ["carat", "id"])
    op.create_index("ix_products_facets", "products", ["cut", "color", "price", "clarity", "carat"])
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("full_name", sa.String(200), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("users")
    op.drop_table("products")
