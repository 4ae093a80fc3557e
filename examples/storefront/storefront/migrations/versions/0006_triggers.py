"""Triggers that tell of what is changed, for whoever listens: on PostgreSQL only."""

from alembic import op

from tiercel.sqlalchemy import create_triggers, drop_triggers

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Not of `outbox` and `handled_events`: no answer is made of them, and every order writes there.
TABLES = ("products", "users", "sessions", "orders", "order_lines", "reviews", "uploads", "sales", "changes")


def upgrade() -> None:
    """Have each table tell."""
    if op.get_context().dialect.name == "postgresql":
        for statement in create_triggers(*TABLES):
            op.execute(statement)


def downgrade() -> None:
    """Have them be silent again, and drop what they called."""
    if op.get_context().dialect.name == "postgresql":
        for statement in drop_triggers(*TABLES):
            op.execute(statement)
