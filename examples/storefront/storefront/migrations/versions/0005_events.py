"""Events: the outbox, what was handled, and what follows from them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the four tables."""
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("dead", sa.Boolean(), nullable=False),
        sa.Column("error", sa.String(500), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_dead_due_at"), "outbox", ["dead", "due_at"])
    op.create_table(
        "handled_events",
        sa.Column("event_id", sa.String(32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_handled_events")),
    )
    op.create_index(op.f("ix_handled_events_at"), "handled_events", ["at"])
    _of_products("sales", *[sa.Column(name, sa.BigInteger(), nullable=False) for name in ("quantity", "revenue")])
    op.create_index(op.f("ix_sales_quantity_product_id"), "sales", ["quantity", "product_id"])
    numbers = [sa.Column(name, sa.Integer(), nullable=False) for name in ("version", "price", "stock")]
    _of_products("changes", *numbers, sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False))
    op.create_index(op.f("ix_changes_changed_at"), "changes", ["changed_at"])


def _of_products(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        name,
        sa.Column("product_id", sa.Integer(), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name=op.f(f"fk_{name}_product_id_products"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("product_id", name=op.f(f"pk_{name}")),
    )


def downgrade() -> None:
    """Drop the four."""
    for name in ("changes", "sales", "handled_events", "outbox"):
        op.drop_table(name)
